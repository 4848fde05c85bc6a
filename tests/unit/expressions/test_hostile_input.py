"""Small inputs that would take long end soon, in a box of little memory and time: more than the corpora try."""

import json
from typing import Any

import pytest

from pyflow.core.errors import DefinitionError
from pyflow.documents.json_schema import mismatches
from pyflow.documents.models import WorkflowDef
from pyflow.nodes import default_registry
from pyflow.validation.checker import check_workflow
from pyflow.validation.loader import parse_workflow
from tests.unit.expressions import boxed

#: Multiples of it have the same hash, whichever process looks.
MODULUS = 2**61 - 1
CLASHING = [i * MODULUS for i in range(40_000)]

HEAD = "version: 2\nname: flow\nnodes:\n"
LOG = "type: log, config: {message: x}"


def _nodes(count: int, node: str) -> str:
    return HEAD + "".join(f"  - {{id: n{i}, {node.replace('@', str(i))}}}\n" for i in range(count))


def _nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = {"x": value}
    return value


DOUBLING = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(30)}

CASES: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "a key twice, behind many": (
        "json",
        "{" + ",".join(f'"k{i}":1' for i in range(90_000)) + ',"z":1,"z":1}',
        {},
        "stands twice",
    ),
    "directives": ("yaml", "".join(f"%TAG !a{i}! x\n" for i in range(60_000)) + "--- a", {}, "begin with '%'"),
    "values": ("yaml", "[" + "1," * 200_000 + "]", {}, "more than 150,000 values"),
    "unknown dependencies": ("checked", _nodes(3000, LOG + ", depends_on: [nodes@]"), {}, "does not exist"),
    "unknown names": ("checked", _nodes(1500, "type: log, config: {message: '{{ m@ }}'}"), {}, "does not exist"),
    "unknown keys": ("checked", _nodes(3000, LOG + ", confg: 1, typ: 2"), {}, "unknown key"),
    "templates": (
        "checked",
        _nodes(9000, "type: log, config: {message: '{{ 1 + @ }}'}"),
        {},
        "different templates",
    ),
    "conditions": (
        "checked",
        _nodes(6000, LOG + ", when: '[x for x in range(9999) if x > @]'"),
        {},
        "different expressions",
    ),
    "a circle of fields": (
        "checked",
        HEAD
        + "  - id: a\n    type: set\n    config:\n"
        + "".join(f"      f{i}: output.f{(i + 1) % 3000}\n" for i in range(3000)),
        {},
        "in a circle",
    ),
    "unknown fields": (
        "checked",
        HEAD + "  - id: a\n    type: set\n    config:\n" + "".join(f"      f{i}: output.g{i}\n" for i in range(3000)),
        {},
        "no such field",
    ),
    "many fields": (
        "checked",
        HEAD + "  - id: a\n    type: set\n    config: {x: [" + "".join(f"'{i} + 1'," for i in range(6000)) + "]}\n",
        {},
        "different expressions",
    ),
    "many nodes": ("checked", _nodes(10_001, "type: log"), {}, "at most 10,000"),
    "a long cycle": (
        "checked",
        _nodes(3000, LOG + ", depends_on: [n@]"),
        {},
        "Cycle detected: n0 -> n0",
    ),
    "references that double": (
        "schema",
        json.dumps({"$ref": "#/$defs/d0", "$defs": DOUBLING | {"d30": {"type": "string"}}}),
        {"value": 1},
        "parts",
    ),
    "recursion that doubles": (
        "schema",
        json.dumps({"properties": {"x": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}}}),
        {"value": _nested(30)},
        "more than once for the same part",
    ),
    "recursion that grows like rabbits": (
        "schema",
        json.dumps({"properties": {"x": {"$ref": "#", "properties": {"x": {"$ref": "#"}}}}}),
        {"value": _nested(60)},
        "more than once for the same part",
    ),
    "a schema that is itself": ("schema", json.dumps({"$ref": "#"}), {"value": 1}, "without end"),
    "parts times values": (
        "schema",
        json.dumps({"items": {"allOf": [{"minimum": 0}] * 5000}}),
        {"value": [1] * 100_000},
        "too large to be checked",
    ),
    "errors times branches": (
        "schema",
        json.dumps({"items": {"anyOf": [{"minimum": 2}] * 300}}),
        {"value": [1] * 30_000},
        "not valid under any",
    ),
    "backtracking": (
        "schema",
        json.dumps({"pattern": "^(a+)+$"}),
        {"value": "a" * 40 + "b"},
        "does not match",
    ),
    "a set of clashing numbers": ("expression", "len(set(xs))", {"xs": CLASHING}, "same hash"),
    "a set in a comprehension": ("expression", f"len({{i * {MODULUS} for i in range(4000)}})", {}, "same hash"),
    "a mapping of clashing numbers": ("expression", "len(dict(zip(xs, xs)))", {"xs": CLASHING[:9000]}, "same hash"),
    "a union with clashing numbers": ("expression", "len({1}.union(xs))", {"xs": CLASHING}, "same hash"),
    "a template's mapping": ("typed template", "{{ dict(xs) }}", {"xs": [[x, 1] for x in CLASHING]}, "same hash"),
    "a class method": ("typed template", "{{ {}.fromkeys(xs) }}", {"xs": CLASHING}, "not allowed"),
}


#: What only looks like it, and the value that it has.
HARMLESS: dict[str, tuple[str, str, dict[str, Any], Any]] = {
    "a set": ("expression", "len(set(xs))", {"xs": list(range(50_000))}, 50_000),
    "equal numbers": (
        "expression",
        "sorted(set(xs))",
        {"xs": [0, 0.0, -1, -2, MODULUS, 2, 2.0]},
        [-2, -1, 0, 2, MODULUS],
    ),
    "a mapping": ("expression", "dict([['a', 1], ['b', 2]])", {}, {"a": 1, "b": 2}),
    "a union": ("expression", "sorted({1}.union([2], [3]))", {}, [1, 2, 3]),
    "a small template's mapping": ("typed template", "{{ dict([['a', 1]], b=2) }}", {}, {"a": 1, "b": 2}),
}
SENSIBLE: list[tuple[dict[str, Any], Any]] = [
    (
        {
            "$ref": "#/$defs/t",
            "$defs": {"t": {"properties": {"l": {"$ref": "#/$defs/t"}, "r": {"$ref": "#/$defs/t"}}}},
        },
        {"l": {"r": {"l": {}}}},
    ),
    (
        {
            "anyOf": [
                {"required": ["not"], "properties": {"not": {"$ref": "#"}}},
                {"required": ["all"], "properties": {"all": {"items": {"$ref": "#"}}}},
                {"type": "string"},
            ]
        },
        {"all": [{"not": "a"}, "b"]},
    ),
    ({"$defs": {"t": {"$anchor": "T", "type": "string"}}, "properties": {"a": {"$ref": "#T"}}}, {"a": "x"}),
    ({"prefixItems": [{"$ref": "#/$defs/a~1b"}], "$defs": {"a/b": {"type": "integer"}}}, [1]),
]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, Any]]:
    cases = [
        {"id": name, "kind": kind, "source": source, "context": context}
        for name, (kind, source, context, _) in (CASES | HARMLESS).items()
    ]
    cases += [
        {"id": f"schema {number}", "kind": "schema", "source": json.dumps(schema), "context": {"value": value}}
        for number, (schema, value) in enumerate(SENSIBLE)
    ]
    return boxed.run(cases)


@pytest.mark.parametrize("name", CASES)
def test_hostile_input_ends_soon_with_an_error_of_ours(name: str, outcomes: dict[str, dict[str, Any]]):
    assert outcomes[name]["is"] in ("reject", "limit"), outcomes[name]
    assert CASES[name][3] in outcomes[name]["detail"]


@pytest.mark.parametrize("name", HARMLESS)
def test_what_only_looks_like_it_is_done(name: str, outcomes: dict[str, dict[str, Any]]):
    assert outcomes[name]["is"] == "value", outcomes[name]
    assert outcomes[name]["value"] == HARMLESS[name][3]


@pytest.mark.parametrize("number", range(len(SENSIBLE)))
def test_schemas_that_refer_to_themselves_with_sense_are_usable(number: int, outcomes: dict[str, dict[str, Any]]):
    assert outcomes[f"schema {number}"] == {"is": "value", "value": True, "detail": "true"}


def test_nodes_are_counted_before_each_is_looked_at():
    with pytest.raises(DefinitionError) as refused:
        parse_workflow("version: 2\nname: w\nnodes: [" + "0," * 10_001 + "]")
    assert [problem.code for problem in refused.value.problems] == ["too_many_nodes"]


@pytest.mark.parametrize(
    "schema",
    [{"type": "integer"}, {"enum": [1]}, {"const": 1}, {"pattern": "^x"}, {"maxLength": 3}, {"format": "date"},
     {"anyOf": [{"type": "integer"}, {"const": "x"}]}, {"not": {}}],
    ids=str,
)  # fmt: skip
def test_what_does_not_fit_a_schema_is_not_shown(schema: dict[str, Any]):
    found = mismatches({"properties": {"key": schema}}, {"key": "open-sesame"})
    assert schema == {"format": "date"} or [problem.pointer for problem in found] == ["/key"]
    assert "sesame" not in str(found)


def test_templates_that_take_long_to_compile_are_refused_together():
    long = "{{ [" + ",".join(["1"] * 3000) + "] | length + %d }}"
    nodes = [{"id": f"n{i}", "type": "template", "config": {"template": long % i}} for i in range(20)]
    workflow = WorkflowDef.model_validate({"version": 2, "name": "w", "nodes": nodes})
    [problem] = check_workflow(workflow, default_registry)
    assert problem.code == "too_many_templates"
    few = WorkflowDef.model_validate({"version": 2, "name": "w", "nodes": nodes[:5]})
    assert check_workflow(few, default_registry) == []
