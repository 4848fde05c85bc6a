"""`dry_run`: what a run would do, found out without running anything."""

from typing import Any

import pytest

from pyflow.core.errors import DefinitionError
from pyflow.core.ports import MappingSecrets
from pyflow.execution.dry_run import DryRun, dry_run
from pyflow.nodes import default_registry
from pyflow.validation.loader import parse_workflow


def plan(text: str, **options: Any) -> DryRun:
    return dry_run(parse_workflow(text), default_registry, **options)


V2 = """
version: 2
name: plan
inputs: {n: integer, name: {type: string, default: Ada}}
vars: {limit: 10}
nodes:
  - {id: a, type: template, config: {template: {n: "{{ input.n + vars.limit }}", who: ["{{ input.name }}"]}}}
  - {id: b, type: template, depends_on: [a], when: "input['n'] > vars['limit']", config: {template: "{{ a.n }}"}}
  - {id: c, type: template, depends_on: [b], config: {template: c}}
  - {id: d, type: template, depends_on: [b], run_if: none_failed, config: {template: d}}
  - {id: e, type: template, depends_on: [a], run_if: any_failed, config: {template: e}}
on_failure: [{id: f, type: log, config: {message: "{{ run.error.message }}"}}]
finally: [{id: g, type: log, config: {message: "{{ secrets.TOKEN }} {{ run.state }}"}}]
"""


def test_order_levels_and_critical_path_are_those_of_the_graph():
    report = plan(V2, input={"n": 1})
    assert report.order == ["a", "b", "e", "c", "d"]
    assert report.levels == [["a"], ["b", "e"], ["c", "d"]]
    assert report.critical_path == ["a", "b", "c"]


def test_what_a_constant_condition_skips_is_followed_through_run_if():
    assert plan(V2, input={"n": 1}).skipped == {
        "b": "when is false",
        "c": "run_if all_succeeded",
        "e": "run_if any_failed",
        "f": "runs only if the run fails",
    }
    assert set(plan(V2, input={"n": 11}).skipped) == {"e", "f"}


def test_configs_are_rendered_as_far_as_the_input_goes():
    nodes = {node.id: node for node in plan(V2, input={"n": 1}).nodes}
    assert nodes["a"].config == {"template": {"n": 11, "who": ["Ada"]}}
    assert nodes["b"].config == {"template": "{{ a.n }}"}
    assert nodes["b"].pending == ("/config/template",)
    assert nodes["g"].section == "finally"


def test_an_input_that_does_not_fit_is_reported_and_not_raised():
    report = plan(V2)
    assert not report.clean
    assert ["n" in problem.message for problem in report.input_problems] == [True]
    assert {reference.node_id for reference in report.unresolved} == {"a", "b"}


def test_secrets_that_are_not_there_are_named_and_those_that_are_not_shown():
    missing = plan(V2, input={"n": 1}, secrets=MappingSecrets({}))
    assert [(ref.node_id, ref.reason) for ref in missing.unresolved] == [("g", "secret not found: TOKEN")]
    there = plan(V2, input={"n": 1}, secrets=MappingSecrets({"TOKEN": "sesame-open"}))
    assert there.clean
    assert "sesame" not in str(there.as_dict())


def test_nothing_that_is_invalid_is_planned():
    with pytest.raises(DefinitionError, match="Cycle"):
        plan("name: x\ntrigger: {type: manual}\nnodes: [{id: a, type: log, depends_on: [a]}]")


V1 = """
name: old
trigger: {type: manual}
nodes:
  - {id: a, type: transform, config: {input: "{{ trigger }}", expression: "{{ __now__ }} {{ nobody }} {{ z }}"}}
  - {id: b, type: condition, depends_on: [a], when: "nobody > 1", config: {if: "1"}}
  - {id: c, type: condition, depends_on: [b], when: "this is no expression", config: {if: "1"}}
  - {id: d, type: condition, depends_on: [c], when: "trigger['x'] > 1", config: {if: "1"}}
  - {id: z, type: condition, config: {if: "a"}}
"""


def test_a_v1_file_has_references_to_nothing_reported():
    report = plan(V1, initial_context={"trigger": {"x": 1}})
    assert [(ref.node_id, ref.pointer, ref.reason) for ref in report.unresolved] == [
        ("a", "/config/expression", "nothing provides 'nobody'"),
        ("a", "/config/expression", "'z' is not upstream, so it may not have finished"),
        ("b", "/when", "nothing provides 'nobody'"),
    ]
    assert report.skipped == {
        "b": "when cannot be evaluated: nothing provides 'nobody'",
        "c": "when is not an expression",
        "d": "when is false",
    }


def test_a_v1_file_without_a_trigger_has_that_reported():
    report = plan(V1)
    assert ("a", "/config/input", "nothing provides 'trigger'") in [
        (ref.node_id, ref.pointer, ref.reason) for ref in report.unresolved
    ]


def test_the_report_is_plain_data():
    report = plan(V2, input={"n": 1}).as_dict()
    assert report["nodes"][0]["config"]["template"]["n"] == 11
    assert set(report) == {
        "workflow",
        "version",
        "order",
        "levels",
        "critical_path",
        "skipped",
        "unresolved",
        "input_problems",
        "nodes",
    }
