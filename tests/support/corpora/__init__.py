"""The attack corpora: JSON lists of cases, usable where a fixture is not (`pytest.mark.parametrize`).

Those of the repository are samples. `PYFLOW_CORPORA` names a folder with others, so what plays a case goes by its
fields, never by its id, and a case that is of no known kind fails by itself.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Case = dict[str, Any]


def folder() -> Path:
    """Return the folder named by `PYFLOW_CORPORA`, or the one that came with the repository."""
    return Path(os.environ.get("PYFLOW_CORPORA") or Path(__file__).parents[2] / "corpora")


def load(name: str) -> list[Case]:
    """Return the cases of one corpus, such as `ssrf`; each is a dict with at least an `id`."""
    cases: list[Case] = json.loads((folder() / f"{name}.json").read_bytes())
    return cases


def each(name: str, which: Callable[[Case], bool] = lambda _: True) -> pytest.MarkDecorator:
    """Run a test with each case of a corpus as `case`, by its id; with `which`, only with those it takes."""
    cases = [pytest.param(case, id=str(case["id"])) for case in load(name) if which(case)]
    return pytest.mark.parametrize("case", cases)


def text(case: Case) -> str:
    """Return the input of a case as text; `{"build": [[text, count], …]}` is the concatenation."""
    given = case["input"]
    if isinstance(given, str):
        return given
    if isinstance(given, dict) and given.keys() == {"build"}:
        return "".join(part * count for part, count in given["build"])
    return str(unread(case, f"the input {json.dumps(given)[:200]}"))


def is_text(case: Case) -> bool:
    """Whether the input of a case is text, written out or built."""
    return isinstance(case["input"], str) or (isinstance(case["input"], dict) and "build" in case["input"])


def unread(case: Case, what: str) -> Any:
    """Fail the test of a case that has something which no test reads."""
    pytest.fail(f"the case {case['id']} has what no test reads: {what}")
