"""Texts compared line by line."""

import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyflow.compare import text_diff
from pyflow.compare.text_diff import MAX_EDITS, unified
from tests.support.work import lines_run


def names(before: str, after: str) -> str:
    return unified(before, after, before_name="a", after_name="b")


def test_it_is_what_diff_shows():
    before = "".join(f"{n}\n" for n in range(20))
    after = before.replace("3\n4\n", "3\nnew\n4\n", 1).replace("15\n", "")
    assert names(before, after) == (
        "--- a\n+++ b\n"
        "@@ -2,6 +2,7 @@\n 1\n 2\n 3\n+new\n 4\n 5\n 6\n"
        "@@ -13,7 +14,6 @@\n 12\n 13\n 14\n-15\n 16\n 17\n 18\n"
    )


def test_a_missing_last_newline_is_shown():
    assert names("a\nb", "a\nb\n").endswith("-b\n\\ No newline at end of file\n+b\n")


def test_texts_that_are_alike_differ_in_nothing():
    assert names("a\n", "a\n") == ""


LINES = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "\n", " a\n"]), max_size=40).map("".join)


@given(LINES, LINES)
def test_the_patch_makes_one_of_the_other(before: str, after: str):
    assert applied(before, names(before, after)) == after


@pytest.mark.parametrize(("before", "after"), [("", "a\nb\n"), ("a\nb\n", ""), ("x\ny\nz", "y\nz\nx"), ("a", "a\n")])
def test_the_program_patch_understands_it(before: str, after: str, tmp_path: Path):
    (tmp_path / "file").write_text(before)
    command = ["patch", "--quiet", "-E", "file"]
    subprocess.run(command, cwd=tmp_path, input=names(before, after).encode(), check=True)
    assert (tmp_path / "file").exists() == bool(after)
    assert not after or (tmp_path / "file").read_text() == after


def test_beyond_so_many_edits_all_of_it_is_replaced():
    """Lines that are alike and lines that are not in turn, and a shuffle: difflib takes minutes for these."""
    before = "".join(f"same\nours {n}\n" for n in range(20_000))
    after = "".join(f"same\ntheirs {n}\n" for n in range(20_000))
    shuffled = [f"{n}\n" for n in range(20_000)]
    random.Random(1).shuffle(shuffled)
    for ours, theirs in ((before, after), ("".join(f"{n}\n" for n in range(20_000)), "".join(shuffled))):
        patch = names(ours, theirs)
        assert applied(ours, patch) == theirs
        assert not [line for line in patch.splitlines()[3:] if line.startswith(" ")][1:], "one line begins alike"


def test_no_more_edits_than_the_limit_are_tried(monkeypatch: pytest.MonkeyPatch):
    """Each that is tried costs one step more than the one before; beyond the limit, texts only get longer."""
    monkeypatch.setattr(text_diff, "MAX_EDITS", 100)

    def work(length: int) -> int:
        ours, theirs = ("".join(f"{side} {n}\n" for n in range(length)) for side in ("ours", "theirs"))
        return lines_run(lambda: names(ours, theirs))

    assert work(400) - work(200) == work(600) - work(400) < work(200) / 5


def test_the_smallest_difference_is_found_among_many_lines():
    before = [f"{n}\n" for n in range(5_000)]
    after = [line for line in before if int(line) % 10]
    patch = names("".join(before), "".join(after))
    assert sum(line.startswith("-") for line in patch.splitlines()[2:]) == MAX_EDITS // 2


def applied(text: str, patch: str) -> str:
    """The text with a patch applied, strictly: every line that it names must be there."""
    left, made = text.splitlines(keepends=True), []
    at = 0
    for line in patch.splitlines(keepends=True)[2:]:
        if line.startswith("@@"):
            start, _, length = line.split()[1][1:].partition(",")
            upto = int(start) - (length != "0")
            made, at = made + left[at:upto], upto
        elif line.startswith("+"):
            made.append(line[1:])
        else:
            assert left[at] == line[1:]
            at += 1
            made += [line[1:]] if line.startswith(" ") else []
    return "".join(made + left[at:])
