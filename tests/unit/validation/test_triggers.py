"""Configs of triggers are checked with the document, with line and column."""

import pytest

from pyflow.execution.plan import compile_stored
from pyflow.nodes import default_registry
from pyflow.validation.checker import check_workflow
from pyflow.validation.lint.references import secrets_used
from pyflow.validation.lint.rules import lint_workflow
from pyflow.validation.loader import parse_workflow


def problems(*triggers, version="version: 2\n"):
    lines = "".join(f"  - {trigger}\n" for trigger in triggers)
    workflow = parse_workflow(
        f"{version}name: x\ntriggers:\n{lines}nodes: [{{id: a, type: log, config: {{message: hi}}}}]\n"
    )
    return check_workflow(workflow, default_registry)


def found(*triggers):
    return [(problem.code, problem.pointer.removeprefix("/triggers/")) for problem in problems(*triggers)]


def hook(rest="", path="x", verify="{scheme: github, secret: HOOK}"):
    return f"{{id: h, type: webhook, config: {{path: '{path}', verify: {verify}{', ' if rest else ''}{rest}}}}}"


def event(rest, on="run.succeeded"):
    return f"{{id: e, type: event, config: {{on: {on}, {rest}}}}}"


@pytest.mark.parametrize(
    "trigger",
    [
        hook(),
        hook(path="/github/push/"),
        hook(verify="{scheme: none}"),
        hook(verify="{scheme: stripe, secret: '{{ secrets.STRIPE }}', overlap: 2h}"),
        hook(verify="{scheme: hmac, secret: S_1, header: X-Sig, encoding: base64, timestamp_header: X-At}"),
        hook("answer: wait, methods: [GET, POST], rate_limit: 5"),
        hook("input: {a: \"{{ trigger.headers['x-b'] }}\", b: '{{ trigger.body }}'}"),
        hook("answer: {wait: 5s, status: '{{ run.outputs.code }}', body: {id: '{{ run.id }}'}}"),
        event("workflow: orders, when: \"trigger.event.data.state == 'succeeded'\""),
        event("input: {a: '{{ trigger.event.run_id }}'}, key: '{{ trigger.event.data.id }}'", "[order.paid, run.*]"),
        event("expect: {within: 10m, key: '{{ trigger.event.run_id }}'}, after: run.started"),
        event("expect: {within: 10m}, after: {on: run.started, workflow: a, when: 'true'}"),
    ],
)
def test_right_configs_have_no_problems(trigger):
    assert found(trigger) == []


@pytest.mark.parametrize(
    ("trigger", "code", "pointer"),
    [
        ("{id: h, type: webhook, config: {path: x}}", "missing", "0/config"),
        (hook(verify="{scheme: hmac-md5, secret: S}"), "bad_config", "0/config/verify/scheme"),
        (hook(verify="{scheme: github}"), "bad_config", "0/config/verify"),
        (hook(verify="{scheme: none, secret: S}"), "bad_config", "0/config/verify"),
        (hook(verify="{scheme: hmac, secret: S}"), "bad_config", "0/config/verify"),
        (hook(verify="{scheme: github, secret: S, header: X-A}"), "bad_config", "0/config/verify"),
        (hook(verify="{scheme: github, secret: p4ssw0rd}"), "bad_config", "0/config/verify/secret"),
        (hook(path="../x"), "bad_config", "0/config/path"),
        (hook(path=""), "bad_config", "0/config/path"),
        (hook(path="{{ vars.x }}"), "not_rendered", "0/config/path"),
        (hook("anser: wait"), "unknown_key", "0/config/anser"),
        (hook("answer: {wait: 2m}"), "bad_config", "0/config/answer/wait"),
        (hook("answer: {status: 20}"), "bad_config", "0/config/answer/status"),
        (hook("input: {a: '{{ trigger.bdy }}'}"), "unknown_name", "0/config/input/a"),
        (hook("input: {a: '{{ secrets.X }}'}"), "unknown_name", "0/config/input/a"),
        (hook("input: {a: '{{ run.id }}'}"), "unknown_name", "0/config/input/a"),
        (hook("input: {a: '{{ trigger.body'}"), "template_syntax", "0/config/input/a"),
        (event("workflow: x", "run.suceeded"), "bad_config", "0/config/on"),
        (event("workflow: x", "node.progress"), "bad_config", "0/config/on"),
        (event("workflow: x", "'order paid'"), "bad_config", "0/config/on"),
        (event("when: 'trigger.evnt == 1'"), "unknown_name", "0/config/when"),
        (event("when: 'trigger.event =='"), "expression_syntax", "0/config/when"),
        (event("expect: {within: 0}"), "bad_config", "0/config/expect/within"),
        (event("after: run.started"), "bad_config", "0/config"),
        ("{id: e, type: event, config: {}}", "bad_config", "0/config"),
    ],
)
def test_a_wrong_config_is_a_problem_at_its_place(trigger, code, pointer):
    assert (code, pointer) in found(trigger)


def test_problems_have_lines_columns_and_suggestions():
    [problem] = problems(hook("anser: wait"))
    assert (problem.line, problem.suggestion) == (4, "answer")
    assert problem.column > 60
    [problem] = problems(event("workflow: x", "run.suceeded"))
    assert "'run.succeeded'" in problem.message


def test_a_path_and_an_id_are_used_once():
    twice = (hook(path="a/b"), hook(path="/a/b").replace("id: h", "id: i"), hook(path="c"))
    assert found(*twice) == [("duplicate_hook_path", "1/config/path"), ("duplicate_trigger_id", "2/id")]


def test_version_1_keeps_its_free_configs():
    text = "name: x\ntrigger: {type: webhook, config: {path: /anything goes, x: 1}}\nnodes: []\n"
    assert check_workflow(parse_workflow(text), default_registry) == []


def test_secrets_of_webhooks_are_used_by_name():
    text = f"version: 2\nname: x\ntriggers: [{hook()}]\nnodes: []\n"
    assert secrets_used(parse_workflow(text)) == ["HOOK"]


def test_a_stored_version_runs_although_its_triggers_would_be_refused_today():
    text = "version: 2\nname: x\ntriggers: [{type: webhook, config: {path: x}}]\nnodes: []\n"
    workflow = parse_workflow(text)
    assert check_workflow(workflow, default_registry)
    assert compile_stored(workflow.checksum(), workflow.model_dump_json, default_registry).workflow.triggers


@pytest.mark.parametrize(
    ("trigger", "warnings"),
    [
        (hook(), []),
        (hook(verify="{scheme: none}"), [("open_webhook", "/triggers/0/config/verify")]),
        (event("workflow: orders"), []),
        (event("workflow: [orders, x]"), [("event_loop", "/triggers/0/config")]),
        (event("when: 'true'"), [("event_loop", "/triggers/0/config")]),
        (event("when: 'true'", "order.paid"), []),
        (event("expect: {within: 1h}"), []),
    ],
)
def test_lint_warns_of_open_doors_and_loops(trigger, warnings):
    text = f"version: 2\nname: x\ntriggers:\n  - {trigger}\nnodes: []\n"
    found = lint_workflow(parse_workflow(text), default_registry)
    assert [(warning.code, warning.pointer) for warning in found] == warnings
