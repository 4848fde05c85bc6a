"""Every case of the YAML and JSON corpus, and the limits of the document reader."""

import json
from typing import Any

import pytest

from pyflow.core import document
from pyflow.core.checker import MAX_NODES
from pyflow.core.document import read_json, read_yaml
from pyflow.core.errors import DocumentError, PyFlowError
from pyflow.core.loader import parse_workflow
from pyflow.core.plan import compile_plan
from tests.support import corpora
from tests.unit.core import boxed, hostile, stage

CASES = corpora.load("yaml_json")
TEXTS = [case for case in CASES if not isinstance(case["input"], dict) or "build" in case["input"]]
GENERATED = [case for case in CASES if case not in TEXTS]
# A definition in a request's body is checked as a workflow is.
DEFINITIONS = [case for case in TEXTS if "definition" in case["input"]]
PLAIN = [case for case in TEXTS if case not in DEFINITIONS]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, Any]]:
    return boxed.run(hostile.boxed(case, case["format"]) for case in PLAIN)


@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case["id"])
def test_a_case_of_the_corpus_ends_as_it_says(case: dict[str, Any], outcomes: dict[str, dict[str, Any]]):
    outcome = outcomes[case["id"]]
    if case["expect"] == "reject":
        # What is no mapping is a document, and no workflow.
        refused = outcome["is"] == "reject" or not isinstance(outcome["value"], dict)
        assert refused, (case["why"], outcome)
    else:
        assert outcome["is"] == "value", (case["why"], outcome)
    if case["expect"] == "lossless":
        lines = dict(line.split(": ") for line in hostile.source(case).splitlines())
        assert {key: str(value) for key, value in outcome["value"].items()} == lines


@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case["id"])
def test_what_is_refused_is_no_workflow_either(case: dict[str, Any]):
    if case["expect"] == "reject":
        with pytest.raises(PyFlowError):
            parse_workflow(hostile.source(case), case["format"])


@pytest.mark.parametrize("case", DEFINITIONS, ids=lambda case: case["id"])
def test_a_definition_of_the_corpus_is_refused(case: dict[str, Any]):
    definition = json.loads(hostile.source(case))["definition"]
    nodes = [{"type": "echo"} | node for node in definition["nodes"]]
    with pytest.raises(PyFlowError, match="Cycle detected: a -> b -> a"):
        compile_plan(stage.workflow({"nodes": nodes}), stage.registry())


@pytest.mark.parametrize("case", GENERATED, ids=lambda case: case["id"])
def test_a_generated_graph_of_the_corpus_is_refused(case: dict[str, Any]):
    count = case["input"]["nodes"]
    assert count > MAX_NODES
    nodes = [{"id": f"n{i}", "type": "echo"} for i in range(count)]
    with pytest.raises(PyFlowError, match=f"{count:,} nodes"):
        compile_plan(stage.workflow({"nodes": nodes}), stage.registry())


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("a: 1\nb: [1, 2\n", 3, 1),
        ("a: 1\na: 2\n", 2, 1),
        ("a:\n  - x\n  - !!python/name:os.system ''\n", 3, 5),
        ("a: 1\n---\nb: 2\n", 2, 1),
        ("? [1]\n: x\n", 1, 3),
        ("a: &x [*x]\n", 1, 8),
        ("a: .nan\n", 1, 4),
        ("x:\n  y: !!str 1\n", 2, 6),
    ],
)
def test_an_error_in_yaml_names_its_place(text: str, line: int, column: int):
    with pytest.raises(DocumentError) as caught:
        read_yaml(text)
    problem = caught.value.problem
    assert problem.line == line
    if "*x" not in text:  # an alias is where its anchor is
        assert problem.column == column


def test_yaml_is_read_as_1_2_and_v1_files_as_1_1():
    text = "on: yes\ntime: 12:30\noctal: 010\nday: 2024-02-30\n"
    assert read_yaml(text).data == {"on": "yes", "time": "12:30", "octal": 10, "day": "2024-02-30"}
    old = read_yaml("on: yes\ntime: 12:30\noctal: 010\n", scalars="1.1").data
    assert old == {"on": True, "time": 750, "octal": 8}


def test_the_version_of_a_document_chooses_its_scalars():
    assert read_yaml("version: 2\nx: no\n", scalars=None).data["x"] == "no"
    assert read_yaml("version: 1\nx: no\n", scalars=None).data["x"] is False
    assert read_yaml("x: no\n", scalars=None).data["x"] is False


@pytest.mark.parametrize("text", ["x: !!bool maybe", "x: !!int ''", "x: !!float x", "x: 2024-99-99"])
def test_a_tag_that_does_not_fit_is_a_document_error_in_v1_files_too(text: str):
    with pytest.raises(DocumentError):
        read_yaml(text, scalars="1.1")


@pytest.mark.parametrize(("read", "deep"), [(read_yaml, "a: "), (read_json, "")])
def test_depth_is_bounded_exactly(read: Any, deep: str):
    levels = document.MAX_DEPTH - bool(deep)
    read(deep + "[" * levels + "]" * levels)
    with pytest.raises(DocumentError, match="deeper than 32"):
        read(deep + "[" * (levels + 1) + "]" * (levels + 1))


@pytest.mark.parametrize("read", [read_yaml, read_json])
def test_size_is_bounded_exactly(read: Any):
    text = '{"a": "' + "x" * (document.MAX_BYTES - 9) + '"}'
    assert len(text) == document.MAX_BYTES
    read(text)
    with pytest.raises(DocumentError, match="1 MiB"):
        read(text + " ")


def test_a_size_is_in_bytes_not_in_characters():
    with pytest.raises(DocumentError, match="1 MiB"):
        read_json('"' + "é" * (document.MAX_BYTES // 2) + '"')


def test_a_few_aliases_are_expanded():
    assert read_yaml("a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\n").data == {
        "a": {"x": 1},
        "b": {"x": 1},
        "c": {"x": 1, "y": 2},
    }


def test_an_open_string_with_many_quotes_does_not_take_quadratic_time():
    outcome = boxed.run([{"id": "quotes", "kind": "json", "source": '"' + '\\"' * 500_000}])["quotes"]
    assert outcome["is"] == "reject", outcome


def test_brackets_inside_json_strings_are_not_depth():
    assert read_json('{"a": "' + "[" * 100 + '\\"{"}').data == {"a": "[" * 100 + '"{'}


def test_positions_are_known_for_every_value():
    parsed = read_yaml("a:\n  b: [x, {c: 1}]\n")
    assert parsed.position("/a/b") == (2, 3)
    assert parsed.position("/a/b/1/c") == (2, 11)
    assert parsed.position("/a/b/9") == (2, 3)  # the nearest thing around it


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"\xc3\x28", b"a: \x80"])
def test_bytes_that_are_not_utf_8_are_refused(raw: bytes):
    with pytest.raises(DocumentError, match="UTF-8"):
        document.decode(raw)
