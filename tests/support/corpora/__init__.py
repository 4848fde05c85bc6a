"""The attack corpora: JSON lists of cases, usable where a fixture is not (`pytest.mark.parametrize`).

Those of the repository are samples. `PYFLOW_CORPORA` names a folder with others, so what plays a case goes by its
fields, never by its id. A case that no test can read is a failed test of its own, and so is a file that is no corpus:
neither keeps the other cases of its module from being played.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Case = dict[str, Any]

_REQUIRED: dict[str, tuple[type, ...]] = {"id": (str,), "input": (str, dict, list), "expect": (str, list)}
_OPTIONAL: dict[str, tuple[type, ...]] = {
    "why": (str,), "accept": (list,), "context": (dict,), "setup": (dict,), "dns": (dict,), "policy": (str, dict),
    "format": (str,),
}  # fmt: skip
#: Begins the fields that are notes about other software, which no test reads.
_NOTE = "observed_"


def folder() -> Path:
    """Return the folder named by `PYFLOW_CORPORA`, or the one that came with the repository."""
    return Path(os.environ.get("PYFLOW_CORPORA") or Path(__file__).parents[2] / "corpora")


def load(name: str) -> list[Case]:
    """Return the cases of one corpus, such as `ssrf`, that can be read: each has `id`, `input`, `expect` and `why`."""
    return [{"why": ""} | case for case in _read(name) if fault_of(case) is None]


def each(name: str, which: Callable[[Case], bool] = lambda _: True) -> pytest.MarkDecorator:
    """Run a test with each case of a corpus as `case`, by its id; with `which`, only with those it takes.

    Cases that cannot be read are in it too, and fail (`tests/support/session.py` sees the mark).
    """
    sound = [pytest.param(case, id=case["id"]) for case in load(name) if which(case)]
    unreadable = [
        pytest.param(case, id=_id_of(name, place, case), marks=pytest.mark.unreadable(f"{name}.json: {fault}"))
        for place, case in enumerate(_read(name))
        if (fault := fault_of(case)) is not None
    ]
    return pytest.mark.parametrize("case", sound + unreadable)


def fault_of(case: object) -> str | None:
    """Return why no test can read a case; `None` if its fields are known and of their types."""
    if isinstance(case, _NoCorpus):
        return case.why
    if not isinstance(case, dict):
        return f"a case is an object, not {json.dumps(case)[:100]}"
    known = _REQUIRED | _OPTIONAL
    if unknown := sorted(name for name in case if name not in known and not name.startswith(_NOTE)):
        return f"no test reads the fields {', '.join(unknown)}"
    if missing := _REQUIRED.keys() - case.keys():
        return f"it has no {', '.join(sorted(missing))}"
    wrong = sorted(name for name, types in known.items() if name in case and not isinstance(case[name], types))
    return f"of an unknown type: {', '.join(wrong)}" if wrong else None


class _NoCorpus:
    """Stands for the cases of a file that is no list of cases."""

    def __init__(self, why: str) -> None:
        self.why = why


def _read(name: str) -> list[Any]:
    try:
        found = json.loads((folder() / f"{name}.json").read_bytes())
    except (OSError, ValueError) as error:
        return [_NoCorpus(f"the file cannot be read: {error}")]
    return found if isinstance(found, list) else [_NoCorpus("the file has no list of cases")]


def _id_of(name: str, place: int, case: object) -> str:
    given = case.get("id") if isinstance(case, dict) else None
    return given if isinstance(given, str) else f"{name}-{place}"


def text(case: Case) -> str:
    """Return the input of a case as text; `{"build": [[text, count], …]}` is the concatenation."""
    given = case["input"]
    if not is_text(case):
        return str(unread(case, f"the input {json.dumps(given)[:200]}"))
    return given if isinstance(given, str) else "".join(part * count for part, count in given["build"])


def is_text(case: Case) -> bool:
    """Whether the input of a case is text, written out or built."""
    given = case["input"]
    return isinstance(given, str) or (
        isinstance(given, dict) and given.keys() == {"build"} and all(_is_part(part) for part in given["build"])
    )


def _is_part(part: object) -> bool:
    match part:
        case [str(), int()]:
            return True
    return False


def unread(case: Case, what: str) -> Any:
    """Fail the test of a case that has something which no test reads."""
    pytest.fail(f"the case {case['id']} has what no test reads: {what}")
