"""Every case of the YAML and JSON corpus, and the limits of the document reader."""

import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest
import yaml

from pyflow.core.errors import DocumentError, PyFlowError
from pyflow.documents import reading
from pyflow.documents.reading import read_json, read_yaml
from pyflow.execution.plan import compile_plan
from pyflow.nodes import default_registry
from pyflow.validation.checker import MAX_NODES, check_workflow
from pyflow.validation.loader import parse_workflow
from tests.support import corpora
from tests.support.corpora import yaml_json
from tests.support.factories import stage
from tests.unit.expressions import boxed

FORMATS = ("yaml", "json")
EXPECTATIONS = ("reject", "accept", "lossless")


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, Any]]:
    """What became of each text: the document is read, or the workflow in it is checked."""
    boxes = []
    for case in filter(corpora.is_text, corpora.load("yaml_json")):
        inside = yaml_json.definition(case)
        kind, text = (case.get("format"), corpora.text(case)) if inside is None else ("checked", inside)
        boxes += [{"id": case["id"], "kind": kind, "source": text}] if case.get("format") in FORMATS else []
    return boxed.run(boxes)


def _is_plain(case: corpora.Case) -> bool:
    """Whether the case is about a document as such; others are about the workflow in it."""
    return corpora.is_text(case) and yaml_json.definition(case) is None


@corpora.each("yaml_json", corpora.is_text)
def test_a_case_of_the_corpus_ends_as_it_says(case: corpora.Case, outcomes: dict[str, dict[str, Any]]):
    if case.get("format") not in FORMATS or case["expect"] not in EXPECTATIONS:
        corpora.unread(case, f"the format {case.get('format')!r} or the expectation {case['expect']!r}")
    outcome = outcomes[case["id"]]
    if case["expect"] == "reject":
        # What is no mapping is a document, and no workflow.
        is_read = outcome["is"] == "value" and _is_plain(case) and not isinstance(outcome["value"], dict)
        assert is_read or outcome["is"] == "reject", (case["why"], outcome)
    else:
        assert outcome["is"] == "value", (case["why"], outcome)
    if "names the cycle" in case.get("why", ""):
        assert "Cycle detected: " in outcome["detail"]
    if case["expect"] == "lossless":
        text = corpora.text(case)
        written = json.loads(text) if case["format"] == "json" else yaml.load(text, yaml.BaseLoader)
        assert _is_kept(outcome["value"], written), (case["why"], outcome)


@corpora.each("yaml_json", lambda case: not corpora.is_text(case))
def test_a_graph_of_the_corpus_ends_as_it_says(case: corpora.Case):
    text, expect = yaml_json.source(case), case["expect"]
    if expect not in ("accept", "reject"):
        corpora.unread(case, f"the expectation {expect!r}")
    problems: Sequence[object]
    try:
        problems = check_workflow(parse_workflow(text), default_registry)
    except PyFlowError as error:
        problems = [error]
    assert bool(problems) == (expect == "reject"), (case["why"], problems)


def _is_kept(value: Any, written: Any) -> bool:
    """Whether a value is what was written: text as it stands, or else what the core schema has a notation for."""
    if isinstance(written, dict):
        return value.keys() == written.keys() and all(_is_kept(value[key], written[key]) for key in written)
    if isinstance(written, list):
        return len(value) == len(written) and all(itertools.starmap(_is_kept, zip(value, written, strict=True)))
    if not isinstance(written, str) or isinstance(value, str):
        return bool(value == written)
    if value is None or isinstance(value, bool):
        return written.lower() in ({"", "~", "null"} if value is None else {str(value).lower()})
    if written.startswith(("0o", "0x")):
        return bool(value == int(written, 0))
    return bool(value == (int(written) if isinstance(value, int) else float(written)))


@corpora.each("yaml_json", lambda case: case["expect"] == "reject" and _is_plain(case))
def test_what_is_refused_is_no_workflow_either(case: corpora.Case):
    with pytest.raises(PyFlowError):
        parse_workflow(corpora.text(case), case["format"])


def test_a_plan_has_as_many_nodes_as_a_document_may_have():
    nodes = [{"id": f"n{i}", "type": "echo"} for i in range(MAX_NODES + 1)]
    with pytest.raises(PyFlowError, match=f"{MAX_NODES + 1:,} nodes"):
        compile_plan(stage.workflow({"nodes": nodes}), stage.registry())


def test_a_plan_without_an_end_names_its_cycle():
    nodes = [{"id": "a", "type": "echo", "depends_on": ["b"]}, {"id": "b", "type": "echo", "depends_on": ["a"]}]
    with pytest.raises(PyFlowError, match="Cycle detected: a -> b -> a"):
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


@pytest.mark.parametrize(
    "text",
    ["<<: {a: 1}\n<<: {b: 2}", "a: &x {b: 1}\nc: {<<: *x, <<: *x}", '"a": 1\na: 2', 'a: 1\n"\\x61": 2',
     "a: 1\n? a\n: 2",
     "a: 0x" + "f" * 500, "a: 0o" + "7" * 500, "a: 1." + "9" * 500, "a: 1e" + "9" * 500, "a: 1e400",
     "a: \ud800", "\udfff: 1",
     'a: "\\ud800"', "a: +.Inf", "null: x", "~: x", "1.5: x", "0x10: x", ": x", "{a: 1}: x",
     "a: !<tag:yaml.org,2002:str> x",
     "%TAG ! tag:yaml.org,2002:\n---\na: !str x", "a: 1\n...\nb: 2", "a: \x01", "a: \ufffe", "[]:\n- a\n b"],
)  # fmt: skip
def test_what_yaml_has_and_documents_have_not_is_refused(text: str):
    with pytest.raises(DocumentError):
        read_yaml(text)


def test_a_lone_surrogate_is_refused_where_it_stands():
    with pytest.raises(DocumentError, match="surrogate") as caught:
        read_yaml("a: 1\nb: x\ud800")
    assert (caught.value.problem.line, caught.value.problem.column) == (2, 5)


def test_a_version_1_file_may_merge_twice():
    assert read_yaml("<<: {a: 1}\n<<: {b: 2}", scalars="1.1").data == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12:30", "12:30"),
        ("190:20:30", "190:20:30"),
        ("1_000", "1_000"),
        ("0b101", "0b101"),
        ("0x_1", "0x_1"),
        ("08", 8),
        ("0o8", "0o8"),
        ("1.2.3", "1.2.3"),
        ("y", "y"),
        ("nUll", "nUll"),
        ("inf", "inf"),
        ("=", "="),
        ("<<", "<<"),
        ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ("." + "9" * 300, float("." + "9" * 300)),
    ],
)
def test_a_plain_scalar_is_what_the_core_schema_says(text: str, value: Any):
    assert read_yaml(f"a: {text}").data == {"a": value}


@pytest.mark.parametrize(
    "text",
    ['{"a":1,"\\u0061":2}', '{"a":1e400}', '{"a":01}', '{"a":+1}', '{"a":.5}', '{"a":1.}', '{"a":1_0}', '{"a":"\t"}',
     "[1,]",
     '{"a":"\\ud800x"}', '{"\\ud800":1}', '{"\\u0000":1}', '{"a":\u0661}', "\u00a0{}", "\x0c{}", "{}\0", "// c\n{}",
     "-Infinity",
     '{"a":0.' + "9" * 500 + "}"],
)  # fmt: skip
def test_what_is_nearly_json_is_refused(text: str):
    with pytest.raises(DocumentError):
        read_json(text)


@pytest.mark.parametrize(("read", "deep"), [(read_yaml, "a: "), (read_json, "")])
def test_depth_is_bounded_exactly(read: Any, deep: str):
    levels = reading.MAX_DEPTH - bool(deep)
    read(deep + "[" * levels + "]" * levels)
    with pytest.raises(DocumentError, match="deeper than 32"):
        read(deep + "[" * (levels + 1) + "]" * (levels + 1))


@pytest.mark.parametrize("read", [read_yaml, read_json])
def test_size_is_bounded_exactly(read: Any):
    text = '{"a": "' + "x" * (reading.MAX_BYTES - 9) + '"}'
    assert len(text) == reading.MAX_BYTES
    read(text)
    with pytest.raises(DocumentError, match="1 MiB"):
        read(text + " ")


def test_a_size_is_in_bytes_not_in_characters():
    with pytest.raises(DocumentError, match="1 MiB"):
        read_json('"' + "é" * (reading.MAX_BYTES // 2) + '"')


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
        reading.decode(raw)
