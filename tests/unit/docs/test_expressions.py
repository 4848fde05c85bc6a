"""The examples of the page about expressions have the values that it says."""

import datetime
import json
import re
from typing import Any

import pytest

from pyflow.core.plain import to_plain
from pyflow.expressions.draws import DRAWS, Draws
from pyflow.expressions.evaluation import safe_eval
from pyflow.expressions.functions import COMPUTING
from pyflow.expressions.template import compile_template
from pyflow.expressions.values import FUNCTIONS
from tests.repo_shape.tree import ROOT

PAGE = (ROOT / "docs" / "reference" / "expressions.md").read_text(encoding="utf-8")
EXAMPLES = [
    tuple(text.replace(r"\|", "|") for text in row)
    for row in re.findall(r"^\| `((?:[^`|]|\\\|)+)` \| `((?:[^`|]|\\\|)+)` \|$", PAGE, re.MULTILINE)
]


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    data = re.search(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert data is not None
    now = datetime.datetime(2026, 12, 1, 23, 30, tzinfo=datetime.UTC)
    return {"input": json.loads(data[1]), "now": now, DRAWS: Draws("run", "node")}


@pytest.mark.parametrize(("source", "value"), EXAMPLES)
def test_an_example_has_its_value(source: str, value: str, names: dict[str, Any]):
    if "{{" in source or "{%" in source:
        found = compile_template(source, typed=True).render(names)
    else:
        found = safe_eval(source, names, version=2)
    assert to_plain(found) == json.loads(value)


def test_every_example_and_every_function_is_there():
    assert len(EXAMPLES) == len(re.findall(r"^\| `", PAGE, re.MULTILINE))
    shown = " ".join(source for source, _ in EXAMPLES) + PAGE.partition("Python's: `")[2].partition("`.")[0]
    missing = [name for name in (*COMPUTING, *FUNCTIONS) if not re.search(rf"\b{name}\b", shown)]
    assert missing == ["random", "uuid"], "they have no value that a page could say"
