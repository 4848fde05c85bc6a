"""`docs/how-to/coming-from.md`: its tables name what there is, and link to the ports."""

import json
import re
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from pyflow.cli import app
from pyflow.documents.node_keys import KEYS
from pyflow.nodes import default_registry
from pyflow.validation.checker import check_workflow
from pyflow.validation.loader import parse_workflow
from tests.repo_shape.tree import ROOT
from tests.support.ports import PORTS

PAGE = (ROOT / "docs" / "how-to" / "coming-from.md").read_text(encoding="utf-8")
SECTIONS = dict(part.split("\n", 1) for part in PAGE.split("\n## ")[1:])
#: The right-hand cells of all tables, with their systems.
CELLS = [
    (system, line.split(" | ", 1)[1].removesuffix(" |"))
    for system, text in SECTIONS.items()
    for line in text.splitlines()
    if line.startswith("| ") and not line.startswith(("| ---", f"| {system} |"))
]
CODES = [(system, code) for system, cell in CELLS for code in re.findall(r"`([^`]+)`", cell)]
TRIGGERS = {"manual", "webhook", "schedule", "event"}
#: What stands for `…`, where a text of one letter is not enough.
VALUES: dict[str, Any] = {
    "for_each": ["x"],
    "until": {"when": "output"},
    "compensate": {"type": "log", "config": {"message": "x"}},
    "when": "input",
    "item_when": "item",
}
MATRIX = {"matrix": {"a": [1]}, "include": [{"a": 2}], "exclude": [{"a": 1}]}
#: Keys of a node that need another one.
WITH: dict[str, dict[str, Any]] = {
    key: {"for_each": ["x"]} for key in ("item_key", "item_when", "max_parallel", "tolerate_failures")
}


def test_there_is_a_table_for_each_system_with_links_to_its_ports():
    linked = {system: re.findall(r"examples/ports/([\w-]+\.yaml)", text) for system, text in SECTIONS.items()}
    assert sum(map(len, linked.values())) == len(list(PORTS.iterdir()))
    for system, files in linked.items():
        firsts = {(PORTS / file).read_text(encoding="utf-8").partition(":")[0] for file in files}
        assert firsts == {f"# {system}"}


@pytest.fixture(scope="module")
def keys() -> set[str]:
    """Every key of documents, of the configs of node types, and of triggers."""
    found: set[str] = set()

    def collect(part: object) -> None:
        if isinstance(part, dict):
            properties = part.get("properties")
            found.update(properties if isinstance(properties, dict) else ())
            for inner in part.values():
                collect(inner)
        elif isinstance(part, list):
            for inner in part:
                collect(inner)

    collect(json.loads(CliRunner().invoke(app, ["schema"]).stdout))
    for name in default_registry.list_types():
        collect(default_registry.get(name).Config.model_json_schema())
    return found


def test_the_tables_name_keys_and_types_that_there_are(keys: set[str]):
    assert len(CELLS) > 100
    for system, code in CODES:
        if code.startswith(("{{", "pyflow ")):
            continue
        for key in re.findall(r"(?:^|[{,]\s*)([a-z_]+): ", code):
            assert key in keys, (system, code)
        if code.startswith("type: "):
            assert code.removeprefix("type: ") in TRIGGERS | set(default_registry.list_types()), (system, code)


def test_a_node_accepts_the_keys_in_the_tables_with_these_values():
    accepted = 0
    others = [{"id": id, "type": "log", "config": {"message": "x"}} for id in ("a", "build", "flip")]
    for system, code in CODES:
        key, _, text = code.partition(": ")
        if key not in KEYS or not text:
            continue
        value = VALUES.get(key, "x") if text == "…" else yaml.safe_load(text.replace("…", "x"))
        if isinstance(value, dict) and "matrix" in value:
            value = MATRIX
        if key == "until" and isinstance(value, dict):
            value["when"] = "output"
        node = {
            "id": "n",
            "type": "http",
            "config": {"url": "https://a.test"},
            "depends_on": ["flip"],
            **WITH.get(key, {}),
        }
        document = {"version": 2, "name": "row", "nodes": [*others, node | {key: value}]}
        problems = check_workflow(parse_workflow(json.dumps(document)), default_registry)
        assert problems == [], (system, code, problems)
        accepted += 1
    assert accepted > 60
