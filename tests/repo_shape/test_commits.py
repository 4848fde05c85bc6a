"""Subjects of commits, from the one on that adds this check: a prefix, then an imperative, in 72 characters."""

import re
import subprocess
from pathlib import Path

import pytest

PREFIXED = re.compile(r"(?:feat|fix|perf|refactor|test|docs|build|ci)(?:\([a-z_-]+\))?: (?P<first>\S+) \S.*")
MOST_CHARACTERS = 72
#: Verbs that end like another form of one.
VERB = re.compile(r"alias|bias|bring|cling|embed|focus|ping|ring|shed|shred|string|swing")
#: First words that are no verb, however they end.
OTHER = re.compile(
    r"an|any|both|each|every|its?|no|some|that|the|their|these|they|this|those|what|when|where|which|who"
)


def fault(subject: str) -> str | None:
    """Return what is wrong with a subject, as far as spelling shows."""
    if len(subject) > MOST_CHARACTERS:
        return f"{len(subject)} characters instead of {MOST_CHARACTERS} at most"
    match = PREFIXED.fullmatch(subject)
    if match is None:
        return "not `prefix: verb …`"
    first = match["first"].removesuffix(",")  # the first of several verbs
    if not re.fullmatch(r"[a-z][a-z-]+", first) or OTHER.fullmatch(first):
        return f"`{first}` is no verb in lower case"
    if not VERB.fullmatch(first) and re.search(r"(?<!e)ed$|ing$|(?<!s)s$", first):
        return f"`{first}` is no imperative"
    return None


def subjects_since(file: Path) -> list[str]:
    """Return the subjects of the commits after the one that added a file: none outside of git, or before that commit.

    In a shallow clone the oldest commit adds all files, so all of those after it are checked.
    """
    added = _git(file.parent, "log", "--diff-filter=A", "--format=%H", "--", file.name).split()
    return _git(file.parent, "log", "--no-merges", "--format=%s", f"{added[-1]}..HEAD").splitlines() if added else []


def _git(folder: Path, *arguments: str) -> str:
    try:
        asked = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git
        return ""
    return asked.stdout if asked.returncode == 0 else ""


def test_subjects_are_short_imperatives():
    faults = {subject: found for subject in subjects_since(Path(__file__)) if (found := fault(subject))}
    assert faults == {}


@pytest.mark.parametrize(
    "subject",
    [
        "fix: embed it",
        "feat: need a key",
        "ci: pass it on",
        "docs: string them up",
        "fix(runs): keep the lease",
        "build: re-use wheels",
        "test: wake, starve and flush the bus",
        f"perf: do {'x' * 63}",
    ],
)
def test_an_imperative_is_one(subject: str):
    assert fault(subject) is None


@pytest.mark.parametrize(
    "subject",
    [
        "add a thing",
        "Fix: add a thing",
        "chore: add a thing",
        "fix:add a thing",
        "fix: Add a thing",
        "fix: add",
        "fix: added a thing",
        "fix: adding a thing",
        "fix: adds a thing",
        "fix: the thing",
        f"fix: do {'x' * 65}",
        "fix(): do it",
    ],
)
def test_another_form_is_not(subject: str):
    assert fault(subject) is not None


def test_only_commits_after_the_check_are_checked(tmp_path: Path):
    origin, shallow = tmp_path / "origin", tmp_path / "shallow"
    check = origin / "check.py"
    assert subjects_since(check.parent.parent / "check.py") == []

    def commit(subject: str) -> None:
        _run(origin, "add", "-A")
        _run(origin, "-c", "user.name=x", "-c", "user.email=x@x.example", "commit", "-qm", subject, "--allow-empty")

    _run(tmp_path, "init", "-q", str(origin))
    commit("Before")
    assert subjects_since(check) == []
    check.touch()
    commit("The check")
    assert subjects_since(check) == []
    for number in range(3):
        commit(f"fix: do {number}")
    assert subjects_since(check) == ["fix: do 2", "fix: do 1", "fix: do 0"]
    _run(tmp_path, "clone", "-q", "--depth=2", f"file://{origin}", str(shallow))
    assert subjects_since(shallow / "check.py") == ["fix: do 2"]
    _run(tmp_path, "clone", "-q", "--depth=1", f"file://{origin}", str(tmp_path / "tip"))
    assert subjects_since(tmp_path / "tip" / "check.py") == []


def _run(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)
