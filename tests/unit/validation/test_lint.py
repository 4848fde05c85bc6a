"""Warnings about valid workflows."""

import re
import textwrap

import pytest

from pyflow.core.errors import Problem
from pyflow.core.traits import NodeTraits
from pyflow.nodes import default_registry
from pyflow.validation.checker import check_workflow
from pyflow.validation.lint.rules import lint_workflow, secrets_used
from pyflow.validation.loader import parse_workflow
from tests.support.factories.nodes import register


def lint(nodes: str, head: str = "version: 2\nname: flow\n") -> list[Problem]:
    workflow = parse_workflow(head + "nodes:\n" + textwrap.indent(textwrap.dedent(nodes).lstrip("\n"), "  "))
    assert check_workflow(workflow, default_registry) == []
    return lint_workflow(workflow, default_registry)


def found(nodes: str, head: str = "version: 2\nname: flow\n") -> list[tuple[str, str]]:
    return [(warning.code, warning.pointer) for warning in lint(nodes, head)]


T = "type: template, config: {template: 1}"
H = "type: http, config: {url: 'http://a.test'}"


@pytest.mark.parametrize(
    ("nodes", "code", "pointer"),
    [
        (f"- {{id: a, {T}, when: 'False'}}", "constant_when", "/nodes/0/when"),
        (f"- {{id: a, {T}, when: 1 < 2}}", "constant_when", "/nodes/0/when"),
        (
            f"- {{id: a, {H}, timeout: 5, for_each: [1], item_key: '{{{{ item }}}}'}}",
            "unlimited_fan_out",
            "/nodes/0/for_each",
        ),
        (
            f"- {{id: a, {H}, for_each: [1], concurrency: {{key: '{{{{ item }}}}', limit: 2}}}}",
            "unlimited_fan_out",
            "/nodes/0/for_each",
        ),
        ("- {id: a, type: approval, config: {assignees: [ada]}}", "endless_wait", "/nodes/0"),
        ("- {id: a, type: signal, config: {name: x}}", "endless_wait", "/nodes/0"),
        ("- {id: a, type: workflow, config: {workflow: flow}}", "recursive_workflow", "/nodes/0/config/workflow"),
        (
            "- {id: a, type: http, timeout: 5, retry: {}, config: {url: 'http://a.test', method: post}}",
            "retry_not_idempotent",
            "/nodes/0/retry",
        ),
        (
            (
                "- {id: a, type: template, config: {template: 'Bearer {{ secrets.KEY }}'}}\n"
                "- {id: b, type: log, depends_on: [a], config: {message: '{{ a }}'}}"
            ),
            "masked_output",
            "/nodes/0/config/template",
        ),
    ],
)
def test_a_warning(nodes: str, code: str, pointer: str):
    assert found(nodes) == [(code, pointer)]


@pytest.mark.parametrize(
    "nodes",
    [
        f"- {{id: a, {T}, when: input}}",
        f"- {{id: a, {T}, isolation: process, memory_limit: 64MiB}}",
        f"- {{id: a, {T}, for_each: [1], item_key: '{{{{ item }}}}', tolerate_failures: 1}}",
        f"- {{id: a, {H}, timeout: 5, for_each: [1], max_parallel: 5}}",
        f"- {{id: a, {H}, for_each: [1], concurrency: {{key: all, limit: 2}}}}",
        f"- {{id: a, {H}}}",
        "- {id: a, type: http, timeout: 5, retry: {max_attempts: 1}, config: {url: 'http://a.test', method: POST}}",
        "- {id: a, type: http, timeout: 5, retry: {}, config: {url: 'http://a.test', method: PUT}}",
        """
        - id: a
          type: http
          timeout: 5
          retry: {}
          config: {url: 'http://a.test', method: POST, headers: {idempotency-key: x}}
        """,
        "- {id: a, type: approval, config: {assignees: [ada], timeout: 2d}}",
        "- {id: a, type: workflow, config: {workflow: other}}",
    ],
)
def test_no_warning(nodes: str):
    assert found(nodes) == []


def test_an_output_that_nobody_uses():
    nodes = """
        - {id: used, type: template, config: {template: 1}}
        - {id: unused, type: transform, depends_on: [used], config: {input: "{{ used }}", expression: $}}
        - {id: result, type: template, depends_on: [unused], config: {template: 1}}
        - {id: effect, type: log, config: {message: hello}}
    """
    assert found(nodes) == [("unused_output", "/nodes/1")]
    assert found(nodes, "version: 2\nname: flow\noutputs: {x: 1}\n") == [
        ("unused_output", "/nodes/1"),
        ("unused_output", "/nodes/2"),
    ]
    everything = "version: 2\nname: flow\noutputs: {x: '{{ nodes }}'}\n"
    assert found(nodes, everything) == []
    assert found("- {id: a, type: condition, config: {if: '1 > 2'}}") == []


def test_a_dependency_that_another_one_implies():
    nodes = """
        - {id: a, type: log, config: {message: 1}}
        - {id: b, type: log, depends_on: [a], config: {message: 1}}
        - {id: c, type: log, depends_on: [b], config: {message: 1}}
        - {id: d, type: log, depends_on: [c, a], config: {message: 1}}
    """
    assert found(nodes) == [("redundant_dependency", "/nodes/3/depends_on/1")]
    # It is what makes `d` wait for the success of `a`.
    loose = nodes.replace("depends_on: [a], config", "depends_on: [a], run_if: none_failed, config")
    assert found(loose) == []
    v1 = "name: flow\ntrigger: {type: manual}\n"
    assert found(nodes, v1) == [("redundant_dependency", "/nodes/3/depends_on/1")]


@pytest.mark.parametrize(
    ("dependency", "run_if", "reachable"),
    [
        ("type: log, config: {message: hello}", "any_failed", False),
        ("type: log, config: {message: '{{ input.x }}'}", "any_failed", True),
        ("type: log, config: {message: hello}, timeout: 1", "any_failed", True),
        ("type: http, config: {url: 'http://a.test', timeout: 1}", "any_failed", True),
        ("type: fail, config: {message: no}, on_error: continue", "any_failed", True),
        ("type: fail, config: {message: no}, on_error: continue", "all_succeeded", False),
        ("type: fail, config: {message: no}, on_error: continue", "any_succeeded", False),
        ("type: fail, config: {message: no}, on_error: continue", "all_done", True),
        ("type: fail, config: {message: no}, when: input, on_error: continue", "none_failed", True),
        ("type: log, config: {message: hello}, when: 'False'", "all_succeeded", False),
        ("type: log, config: {message: hello}, when: 'False'", "none_failed", True),
    ],
)
def test_a_node_that_never_runs(dependency: str, run_if: str, reachable: bool):
    warnings = found(
        f"""
        - {{id: a, {dependency}}}
        - {{id: b, type: log, depends_on: [a], run_if: {run_if}, config: {{message: b}}}}
        - {{id: c, type: log, depends_on: [b], config: {{message: c}}}}
        """
    )
    # `c` follows from `b` and is not mentioned.
    assert [each for each in warnings if each[0] == "unreachable"] == (
        [] if reachable else [("unreachable", "/nodes/1/run_if")]
    )


def test_warnings_have_places_in_the_order_of_the_document():
    warnings = lint(f"""
        - {{id: a, {H}, for_each: [1]}}
        - id: b
          type: log
          when: "True"
          config: {{message: x}}
    """)
    assert [(warning.code, warning.line, warning.column) for warning in warnings] == [
        ("unlimited_fan_out", 4, 57),
        ("constant_when", 7, 5),
    ]


def test_finishing_nodes_are_looked_at_too_and_v1_files_get_what_v1_knew():
    head = "version: 2\nname: flow\nfinally: [{id: z, type: signal, config: {name: x}}]\n"
    assert found(f"- {{id: a, {T}}}", head) == [("endless_wait", "/finally/0")]
    v1 = "name: flow\ntrigger: {type: manual}\n"
    assert found(f"- {{id: a, {H}, max_parallel: 3, when: '1 > 2'}}", v1) == [("constant_when", "/nodes/0/when")]


def test_a_type_that_calls_services_without_a_time_limit_of_its_own():
    registry = default_registry.copy()
    register(registry, "call", lambda ctx: None).traits = NodeTraits(calls_service=True)
    workflow = parse_workflow("version: 2\nname: flow\nnodes: [{id: a, type: call}, {id: b, type: call, timeout: 5s}]")
    warnings = lint_workflow(workflow, registry)
    assert [(warning.code, warning.pointer) for warning in warnings] == [("missing_timeout", "/nodes/0")]


def test_the_secrets_that_a_workflow_uses():
    text = """
        version: 2
        name: flow
        triggers: [{type: webhook, config: {path: /x, verify: {secret: "{{ secrets.HOOK }}"}}}]
        nodes:
          - id: a
            type: http
            when: secrets['FLAG'] == 'x'
            config: {url: "{{ secrets['URL'] }}/x", headers: {A: "B {{ secrets.KEY | upper }}"}}
            compensate: {type: http, config: {url: "{{ secrets[input.which] }}"}}
    """
    assert secrets_used(parse_workflow(textwrap.dedent(text))) == ["*", "FLAG", "HOOK", "KEY", "URL"]
    assert secrets_used(parse_workflow("version: 2\nname: x\nnodes: []")) == []


INPUTS = "version: 2\nname: flow\ninputs: {order_id: string}\n"


@pytest.mark.parametrize(
    ("nodes", "warnings"),
    [
        ("- {id: a, type: log, config: {message: '{{ input.order_id }}'}}", []),
        (
            "- {id: a, type: log, config: {message: '{{ input.oder_id }}'}}",
            [("undeclared_input", "/nodes/0/config/message", "(did you mean 'order_id'?)")],
        ),
        (
            "- {id: a, type: log, config: {message: x}, when: \"input.get('other') == 1\"}",
            [("undeclared_input", "/nodes/0/when", "'other'")],
        ),
        (
            "- {id: a, type: condition, config: {if: \"input['other'] == 1\"}}",
            [("undeclared_input", "/nodes/0/config/if", "'other'")],
        ),
        ("- {id: a, type: log, config: {message: '{{ input }}'}}", []),
    ],
)
def test_fields_of_the_input_that_nobody_declared(nodes: str, warnings: list[tuple[str, str, str]]):
    found = [each for each in lint(nodes, INPUTS) if each.code == "undeclared_input"]
    assert [(each.code, each.pointer) for each in found] == [each[:2] for each in warnings]
    assert all(part in each.message for each, (_, _, part) in zip(found, warnings, strict=True))


@pytest.mark.parametrize(
    "inputs",
    [
        "{type: object, properties: {a: {}}, additionalProperties: true}",
        "{type: object, properties: {a: {}}, patternProperties: {'^x': {}}}",
        "{type: object, properties: {a: {}}, allOf: [{properties: {other: {}}}]}",
        "{type: object}",
    ],
)
def test_inputs_that_leave_room_for_more_fields(inputs: str):
    nodes = "- {id: a, type: log, config: {message: '{{ input.other }}'}}"
    assert found(nodes, f"version: 2\nname: flow\ninputs: {inputs}\n") == []


def test_keys_that_are_new_each_time():
    now = "'{{ run.now }}'"
    nodes = f"""
        - {{id: a, {T}, cache: {{key: {now}, ttl: 60}}}}
        - {{id: b, {T}, depends_on: [a], concurrency: {{key: {now}, limit: 1}}}}
        - {{id: c, {T}, depends_on: [b], for_each: [1], item_key: {now}}}
        - {{id: d, {T}, depends_on: [c], cache: {{key: '{{{{ run.id }}}}', ttl: 60}}}}
    """
    assert [each for each in found(nodes) if each[0] == "unsteady_key"] == [
        ("unsteady_key", "/nodes/0/cache/key"),
        ("unsteady_key", "/nodes/1/concurrency/key"),
        ("unsteady_key", "/nodes/2/item_key"),
    ]


def test_the_error_of_a_run_that_has_not_failed():
    message = "type: log, config: {message: '{{ run.error.message }}'}"
    head = f"version: 2\nname: flow\non_failure: [{{id: z, {message}}}]\n"
    undo = "compensate: {type: log, config: {message: '{{ run.error.message }}'}}"
    assert found(f"- {{id: a, {message}}}", head) == [("no_error_yet", "/nodes/0/config/message")]
    assert found(f"- {{id: a, type: log, config: {{message: x}}, {undo}}}", head) == []


def test_templates_where_none_is_rendered():
    head = "version: 2\nname: flow\nlabels: {team: '{{ input.team }}'}\nvars: {url: 'http://{{ input.host }}'}\n"
    nodes = "- {id: a, type: http, timeout: 5, config: {url: '{{ vars.url }}', headers: {'X-{{ input.x }}': y}}}"
    assert found(nodes, head) == [
        ("not_rendered", "/labels/team"),
        ("not_rendered", "/vars/url"),
        ("not_rendered", "/nodes/0/config/headers/X-{{ input.x }}"),
    ]


def test_a_config_that_hangs_on_templates_giving_nothing():
    both = "{url: 'http://a.test', method: POST, body: '{{ input.a }}', form: '{{ input.b }}'}"
    [(code, pointer)] = found(f"- {{id: a, type: http, timeout: 5, config: {both}}}")
    assert code == "doubtful_config"
    assert pointer.startswith("/nodes/0/config")


def test_a_dependency_named_twice():
    nodes = """
        - {id: a, type: log, config: {message: 1}}
        - {id: b, type: log, config: {message: 1}, depends_on: [a, a, a]}
    """
    assert found(nodes) == [
        ("repeated_dependency", "/nodes/1/depends_on/1"),
        ("repeated_dependency", "/nodes/1/depends_on/2"),
    ]


def test_a_constant_that_takes_long_to_find_out_is_left_alone():
    assert found(f"- {{id: a, {T}, when: '[x for x in range(9999)] == 3'}}") == []
    assert found(f"- {{id: a, {T}, when: '\"a\" * 1000000 == 3'}}") == []


def test_each_dependency_that_others_imply_is_named_once():
    names = [f"n{i}" for i in range(13)]
    log = "type: log, config: {message: x}"
    warnings = lint("".join(f"- {{id: {n}, {log}, depends_on: {names[:i]}}}\n" for i, n in enumerate(names)))
    # All but the last one of each node.
    assert len(warnings) == sum(max(i - 1, 0) for i in range(13))
    assert "'n2' depends on 'n1', which depends on 'n0' already" in [each.message for each in warnings]


def test_each_rule_gives_a_hundred_warnings_at_most():
    nodes = "".join(f"- {{id: a{i}, {H}, for_each: [1]}}\n" for i in range(150))
    assert len(found(nodes)) == 100


@pytest.mark.parametrize(
    ("condition", "word"),
    [
        ("run.state == 'Succeeded'", "succeeded"),
        ("'over' != run['state']", "no state:"),
        ("nodes.a.state == 'success'", "succeeded"),
        ("nodes['a'].state in ['failure', 'timed_out']", "failed"),
        ("run.state in ['failed', 'timedout']", "timed_out"),
        ("not (run.state not in ('canceled',))", "cancelled"),
        ("call.state == 'Failed'", "failed"),
        ("nodes.call.output.state == 'Failed'", "failed"),
        ("nodes['call']['output']['state'] == 'Failed'", "failed"),
        ("run.state == 'succeeded' and call.state in ['failed', 'timed_out']", None),
        ("a.state == 'Bavaria' or nodes.a.state == 'skipped' or run.state in 'no list'", None),
    ],
)
@pytest.mark.parametrize("template", [False, True])
def test_a_state_that_is_compared_with_a_word_that_is_none(condition: str, word: str | None, template: bool):
    where = (
        f'config: {{message: "{{{{ {condition} }}}}"}}' if template else f'when: "{condition}", config: {{message: x}}'
    )
    nodes = f"""
        - {{id: a, type: log, config: {{message: x}}}}
        - {{id: call, type: workflow, config: {{workflow: other}}}}
        - {{id: b, type: log, depends_on: [a, call], {where}}}"""
    told = [warning for warning in lint(nodes) if warning.code == "unknown_state"]
    assert [warning.pointer for warning in told] == (
        [] if word is None else ["/nodes/2/config/message" if template else "/nodes/2/when"]
    )
    assert word is None or word in told[0].message


def scheduled(*configs: str) -> str:
    """The head of a workflow with a schedule of each config, as YAML in one line."""
    lines = (f"  - {{id: s{number}, type: schedule, config: {config}}}\n" for number, config in enumerate(configs))
    return f"version: 2\nname: flow\ntriggers:\n{''.join(lines)}"


@pytest.mark.parametrize(
    ("configs", "places"),
    [
        (('{cron: "0 2 * * *"}', '{cron: "0 2 * * 1"}'), ["/triggers/1/config/cron"]),
        (('{cron: "0 2 * * *"}', '{cron: "30 2 * * *"}'), []),
        # 02:00 in Berlin is 01:00 or, in summer, 00:00 in UTC.
        (('{cron: "0 2 * * *", timezone: Europe/Berlin}', '{cron: "0 1 * * *"}'), ["/triggers/1/config/cron"]),
        (('{cron: "0 2 * * *", timezone: Europe/Berlin}', '{cron: "0 3 * * *"}'), []),
        (('{cron: "@daily"}', '{cron: "0 0 * * *"}', '{cron: "0 0 1 * *"}'), [1, 2, 2]),
        (('{cron: "0 2 * * *"}', "{interval: 1h}"), []),
        (('{cron: "0 2 * * *", end: 2026-06-01T00:00:00Z}', '{cron: "0 2 * * *", start: 2026-06-01T00:00:00Z}'), []),
    ],
)
def test_cron_schedules_that_fire_at_the_same_moment_are_warned_of(configs, places):
    warnings = lint(f"- {{id: a, {T}}}", scheduled(*configs))
    expected = [f"/triggers/{place}/config/cron" if isinstance(place, int) else place for place in places]
    assert [(warning.code, warning.pointer) for warning in warnings] == [
        ("overlapping_schedules", place) for place in expected
    ]


def test_the_warning_of_schedules_names_both_and_a_moment():
    [warning] = lint(f"- {{id: a, {T}}}", scheduled('{cron: "0 2 * * *"}', '{cron: "0 2 14 2 *"}'))
    assert "'s0' and 's1'" in warning.message
    assert "2026-02-14T02:00:00Z" in warning.message


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{{ input.x | map('split', ',') | list }}",
            r"`map` takes the name of a filter, and none is called 'split'.*split\(x, …\)",
        ),
        ("{{ input.x | map('startswith', 'a') }}", r"\[x.startswith\(…\) for x in items\]"),
        ("{{ input.x | map('uper') }}", "did you mean 'upper'"),
        ("{{ input.x | map('replace', 'a') }}", "the filter `replace` of `map` cannot take these arguments: missing"),
        ("{{ input.x | select('great', 1) }}", "`select` takes the name of a test"),
        (
            "{{ input.x | selectattr('a', 'equals', 1) }}",
            "`selectattr` takes the name of a test.*did you mean 'equalto'",
        ),
        ("a {{ input.x | join(',', 'a', 'b') }}", "`join` cannot take these arguments: too many"),
        ("{{ input.x | round(digits=2) }}", "`round` cannot take these arguments: got an unexpected keyword"),
    ],
)
def test_a_filter_whose_arguments_cannot_be_right(template: str, message: str):
    [warning] = lint(f'- {{id: a, type: log, config: {{message: "{template}"}}}}')
    assert (warning.code, warning.pointer) == ("wrong_filter_arguments", "/nodes/0/config/message")
    assert re.search(message, warning.message), warning.message


@pytest.mark.parametrize(
    "template",
    [
        "{{ input.x | map('upper') | join(', ') }} {{ input.x | map(attribute='a') | list }}",
        "{{ input.x | selectattr('a') | map('replace', 'a', 'b') | sort(attribute='b') }}",
        "{{ input.x | selectattr('a', 'ge', 1) | rejectattr('b', 'in', [1]) | list }}",
        "{{ input.x | default('a', true) }} {{ input.x | tojson(indent=2) }} {{ input.x | wordwrap(5) }}",
        "{{ input.x | map(input.filter) | list }} {{ input.x | map(*input.args) | list }}",
        "{# a comment in words: it goes #} x",
    ],
)
def test_filters_and_comments_that_are_right(template: str):
    assert found(f'- {{id: a, type: log, config: {{message: "{template}"}}}}') == []


def test_a_rule_of_css_that_is_a_comment():
    css = "@media print{#nav{display:none} p{color:red}#} {{ input.x }}"
    [warning] = lint(f"- {{id: a, type: log, config: {{message: '{css}'}}}}")
    assert (warning.code, warning.pointer) == ("template_comment", "/nodes/0/config/message")
    workflow = parse_workflow("version: 2\nname: flow\nnodes:\n- {id: a, type: log, config: {message: 'a{#b{c:d}}'}}")
    [problem] = check_workflow(workflow, default_registry)
    assert "in CSS put a blank between, '{ #'" in problem.message


def test_a_moment_that_stays_or_moves_where_it_should_not():
    until = "- {id: a, type: log, until: {when: \"now > datetime('2026-12-24')\"}, config: {message: x}}"
    assert found(until) == [("steady_now", "/nodes/0/until/when")]
    assert found(until.replace("now >", "datetime(run.now) >")) == []
    assert found(f"- {{id: a, {T}, cache: {{key: '{{{{ now }}}}', ttl: 1h}}}}") == [
        ("unsteady_key", "/nodes/0/cache/key")
    ]
    assert found(f"- {{id: a, {T}, for_each: [1], item_key: '{{{{ now }}}}-{{{{ item }}}}'}}") == []


def test_a_secret_in_a_field_that_others_read():
    nodes = """
        - {id: a, type: set, config: {x: {token: "f'Bearer {secrets.KEY}'"}}}
        - {id: b, type: log, depends_on: [a], config: {message: '{{ a }}'}}
    """
    assert found(nodes) == [("masked_output", "/nodes/0/config/x/token")]
