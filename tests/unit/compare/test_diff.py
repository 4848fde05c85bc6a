"""Definitions compared. The patches are applied by the library `jsonpatch`, which knows nothing of ours."""

import copy

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyflow.compare.diff import compare, json_patch
from pyflow.validation.loader import parse_workflow
from tests.support.work import lines_run

BASE = """
version: 2
name: orders
labels: {team: shop}
inputs: {order_id: string}
settings: {timeout: 60}
triggers:
  - {type: schedule, id: nightly, config: {cron: "0 2 * * *"}}
nodes:
  - {id: load, type: http, config: {url: "https://a.example", method: GET}}
  - {id: check, type: condition, config: {expression: "load.ok"}, depends_on: [load]}
  - {id: note, type: log, config: {message: hello}, depends_on: [check]}
outputs: {ok: "{{ check }}"}
"""


def canonical(text: str) -> dict:
    return parse_workflow(text, "yaml").canonical()


def changed(old: str, new: str) -> dict:
    assert old in BASE
    return compare(canonical(BASE), canonical(BASE.replace(old, new))).as_dict()


def test_what_means_the_same_is_no_difference():
    assert compare(
        canonical(BASE), canonical("# a remark\n" + BASE.replace("{team: shop}", "\n  team: shop"))
    ).identical


def test_a_changed_config_names_the_node_and_the_field():
    (node,) = changed("a.example", "b.example")["nodes"]["changed"]
    change = {"kind": "changed", "pointer": "/config/url", "before": "https://a.example", "after": "https://b.example"}
    assert node == {"id": "load", "type": "http", "section": "nodes", "changes": [change]}


def test_a_removed_node_takes_its_edges_along():
    difference = changed("  - {id: note, type: log, config: {message: hello}, depends_on: [check]}\n", "")
    assert difference["nodes"]["removed"] == [{"id": "note", "type": "log", "section": "nodes"}]
    assert difference["edges"] == {"added": [], "removed": [{"from": "check", "to": "note"}]}


def test_another_dependency_is_an_edge_and_no_change_of_the_node():
    difference = changed("depends_on: [check]", "depends_on: [load]")
    assert difference["nodes"]["changed"] == []
    assert difference["edges"]["added"] == [{"from": "load", "to": "note"}]
    assert not difference["identical"]


def test_a_node_that_only_moved_has_not_changed():
    line = '  - {id: load, type: http, config: {url: "https://a.example", method: GET}}\n'
    moved = BASE.replace(line, "").replace("outputs:", f"{line}outputs:")
    difference = compare(canonical(BASE), canonical(moved)).as_dict()
    assert difference["nodes"] == {"added": [], "removed": [], "changed": []}
    assert (difference["reordered"], difference["identical"]) == (["nodes"], False)


def test_a_node_in_another_section_says_so():
    line = "  - {id: note, type: log, config: {message: hello}, depends_on: [check]}\n"
    free = line.replace(", depends_on: [check]", "")
    before = canonical(BASE.replace(line, free))
    after = canonical(BASE.replace(line, "") + "finally:\n" + free)
    (node,) = compare(before, after).as_dict()["nodes"]["changed"]
    assert node["changes"] == [{"kind": "changed", "pointer": "/section", "before": "nodes", "after": "finally"}]


@pytest.mark.parametrize(
    ("old", "new", "field", "pointer"),
    [
        ("timeout: 60", "timeout: 90", "settings", "/timeout"),
        ("team: shop", "team: logistics", "labels", "/team"),
        ("order_id: string", "order_id: integer", "inputs", "/properties/order_id/type"),
        ("{{ check }}", "{{ load }}", "outputs", "/ok"),
        ("name: orders", "name: orders\ndescription: all", "document", "/description"),
    ],
)
def test_every_part_is_compared(old: str, new: str, field: str, pointer: str):
    (change,) = changed(old, new)[field]
    assert change["pointer"] == pointer


def test_triggers_are_distinguished_by_id_or_type():
    difference = compare(canonical(BASE), canonical(BASE.replace("0 2 * * *", "0 3 * * *")))
    (trigger,) = difference.triggers.only("schedule").changed
    assert (trigger.element.id, trigger.changes[0].pointer) == ("nightly", "/config/cron")
    gone = compare(canonical(BASE), canonical(BASE.replace("nightly", "daily"))).as_dict()["triggers"]
    assert [item["id"] for item in gone["added"] + gone["removed"]] == ["daily", "nightly"]


def test_version_1_and_version_2_are_compared_too():
    first = canonical("name: orders\ntrigger: {type: manual}\nnodes: [{id: a, type: log, config: {message: x}}]")
    second = canonical("version: 2\nname: orders\nnodes: [{id: a, type: log, config: {message: x}}]")
    difference = compare(first, second).as_dict()
    assert difference["document"] == [{"kind": "changed", "pointer": "/version", "before": 1, "after": 2}]
    assert difference["triggers"] == {"added": [], "removed": [], "changed": []}


def test_true_is_not_one():
    before = {"name": "x", "nodes": [{"id": "a", "type": "log", "config": {"x": [1, {"y": 0}]}}]}
    after = copy.deepcopy(before)
    after["nodes"][0]["config"]["x"] = [True, {"y": False}]
    assert not compare(before, after).identical
    assert compare(before, copy.deepcopy(before)).identical


def test_people_read_lines():
    text = BASE.replace("a.example", "b.example").replace("timeout: 60", "timeout: 90").replace("id: note", "id: tell")
    assert list(compare(canonical(BASE), canonical(text)).lines()) == [
        "~ settings/timeout: 60.0 -> 90.0",
        "- node note (log)",
        "+ node tell (log)",
        "~ node load",
        '    ~ config/url: "https://a.example" -> "https://b.example"',
        "- edge check -> note",
        "+ edge check -> tell",
    ]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.text("a/~", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("a/~", max_size=2), inner, max_size=3),
    max_leaves=6,
)
NODES = st.lists(
    st.fixed_dictionaries({"id": st.sampled_from("abcdefgh"), "type": st.just("log")}, optional={"config": VALUES}),
    max_size=8,
    unique_by=lambda node: node["id"],
)
DEFINITIONS = st.fixed_dictionaries(
    {"name": st.just("x"), "nodes": NODES},
    optional={"vars": st.dictionaries(st.text("a/~", max_size=2), VALUES, max_size=3), "finally": NODES},
)


@given(DEFINITIONS, DEFINITIONS)
def test_the_patch_makes_one_of_the_other(before: dict, after: dict):
    patch = json_patch(before, after)
    assert jsonpatch.JsonPatch(patch).apply(before) == after
    assert bool(patch) != compare_all(before, after)


def compare_all(before: dict, after: dict) -> bool:
    return repr(sorted_keys(before)) == repr(sorted_keys(after))


def sorted_keys(value: object) -> object:
    if isinstance(value, dict):
        return [(key, sorted_keys(value[key])) for key in sorted(value)]
    return [sorted_keys(item) for item in value] if isinstance(value, list) else value


def test_a_removed_node_is_one_operation():
    before = {"name": "x", "nodes": [{"id": str(n), "type": "log"} for n in range(100)]}
    after = {"name": "x", "nodes": before["nodes"][1:]}
    assert json_patch(before, after) == [{"op": "remove", "path": "/nodes/0"}]


def test_a_definition_twice_as_large_takes_twice_the_work():
    def work(nodes: int) -> int:
        before = {"name": "x", "nodes": [{"id": str(n), "type": "log", "config": {"n": n}} for n in range(nodes)]}
        after = {"name": "x", "nodes": [node | {"config": {"n": -1}} for node in reversed(before["nodes"])]}
        return lines_run(lambda: (compare(before, after), json_patch(before, after)))

    assert work(400) < 2.1 * work(200)
