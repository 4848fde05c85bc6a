"""What is wrong with a definition is found before anything runs: all of it, with its place and a suggestion."""

import json

import jsonschema
import pytest

from pyflow.core.errors import DefinitionError, Problem
from pyflow.core.problems import suggest
from pyflow.documents.models import json_schema
from pyflow.execution.plan import compile_plan
from pyflow.validation.checker import check_workflow
from pyflow.validation.loader import parse_workflow
from tests.support.factories import stage
from tests.support.factories.stage import node, workflow

REGISTRY = stage.registry()


def problems(text: str) -> list[Problem]:
    try:
        return check_workflow(parse_workflow(text), REGISTRY)
    except DefinitionError as error:
        return list(error.problems)


def found(text: str) -> list[tuple[str, int | None, int | None, str | None]]:
    return [(p.code, p.line, p.column, p.suggestion) for p in problems(text)]


HEAD = "version: 2\nname: t\nnodes:\n"

CASES = {
    "unknown key of the workflow": ("version: 2\nname: t\nnode: []\nnodes: []\n", ("unknown_key", 3, 1, "nodes")),
    "unknown key of a node": (HEAD + "- {id: a, type: echo, dependson: []}\n", ("unknown_key", 4, 23, "depends_on")),
    "unknown key of retry": (
        HEAD + "- {id: a, type: echo, retry: {max_attempt: 2}}\n",
        ("unknown_key", 4, 31, "max_attempts"),
    ),
    "unknown key of settings": (
        "version: 2\nname: t\nsettings: {timeot: 1s}\nnodes: []\n",
        ("unknown_key", 3, 12, "timeout"),
    ),
    "unknown key of a trigger": (
        "version: 2\nname: t\ntriggers: [{type: manual, confg: {}}]\nnodes: []\n",
        ("unknown_key", 3, 27, "config"),
    ),
    "unknown type": (HEAD + "- {id: a, type: ecko}\n", ("unknown_node_type", 4, 11, "echo")),
    "unknown dependency": (
        HEAD + "- {id: alpha, type: echo}\n- {id: b, type: echo, depends_on: [alpa]}\n",
        ("unknown_dependency", 5, 36, "alpha"),
    ),
    "cycle": (
        HEAD + "- {id: a, type: echo, depends_on: [b]}\n- {id: b, type: echo, depends_on: [a]}\n",
        ("cycle", 4, 3, None),
    ),
    "a node that depends on itself": (HEAD + "- {id: a, type: echo, depends_on: [a]}\n", ("cycle", 4, 3, None)),
    "missing config": (HEAD + "- {id: a, type: told, config: {}}\n", ("bad_config", 4, 23, None)),
    "bad config": (HEAD + "- {id: a, type: told, config: {count: many}}\n", ("bad_config", 4, 32, None)),
    "unknown key of config": (
        HEAD + "- {id: a, type: told, config: {count: 1, txt: x}}\n",
        ("unknown_key", 4, 42, "text"),
    ),
    "reference to what is not upstream": (
        HEAD + "- {id: a, type: echo}\n- id: b\n  type: echo\n  config: {value: '{{ a }}'}\n",
        ("not_upstream", 7, 12, None),
    ),
    "reference to nothing": (
        HEAD + "- {id: alpha, type: echo}\n- {id: b, type: echo, depends_on: [alpha], config: {value: '{{ alpa }}'}}\n",
        ("unknown_name", 5, 53, "alpha"),
    ),
    "reference in a when": (HEAD + "- {id: a, type: echo, when: 'inputs.x'}\n", ("unknown_name", 4, 23, "input")),
    "reference in an output": (
        HEAD + "- {id: a, type: echo}\noutputs: {x: '{{ b }}'}\n",
        ("unknown_name", 5, 11, None),
    ),
    "bad template": (HEAD + "- {id: a, type: echo, config: {value: '{{ 1 + }}'}}\n", ("template_syntax", 4, 32, None)),
    "bad expression": (HEAD + "- {id: a, type: echo, when: '1 +'}\n", ("expression_syntax", 4, 23, None)),
    "unsafe expression": (HEAD + "- {id: a, type: echo, when: 'a.__class__'}\n", ("expression_unsafe", 4, 23, None)),
    "reserved id": (HEAD + "- {id: input, type: echo}\n", ("reserved_node_id", 4, 4, None)),
    "bad id": (HEAD + "- {id: 'a b', type: echo}\n", ("bad_node_id", 4, 4, None)),
    "bad name": ("version: 2\nname: a/b\nnodes: []\n", ("bad_name", 2, 1, None)),
    "v1's retry": (HEAD + "- {id: a, type: echo, on_error: retry}\n", ("on_error_retry", 4, 23, None)),
    "both ways to count attempts": (
        HEAD + "- {id: a, type: echo, retry: {max_attempts: 2, max_retries: 1}}\n",
        ("retry_ambiguous", 4, 48, None),
    ),
    "run_if without dependencies": (
        HEAD + "- {id: a, type: echo, run_if: any_failed}\n",
        ("run_if_without_dependencies", 4, 23, None),
    ),
    "bad schema": ("version: 2\nname: t\ninputs: {type: object, required: 1}\nnodes: []\n", ("bad_schema", 3, 1, None)),
    "bad enum": (HEAD + "- {id: a, type: echo, run_if: all_done_}\n", ("bad_value", 4, 23, "all_done")),
    "bad duration": (HEAD + "- {id: a, type: echo, timeout: soon}\n", ("bad_value", 4, 23, None)),
    "missing key": (HEAD + "- {id: a}\n", ("missing", 4, 3, None)),
}


@pytest.mark.parametrize(("text", "problem"), CASES.values(), ids=CASES.keys())
def test_a_problem_has_its_code_place_and_suggestion(text: str, problem: tuple[str, int, int, str | None]):
    assert found(text) == [problem]


def test_all_problems_are_reported_at_once_in_the_order_of_the_document():
    text = (
        "version: 2\nname: t\nnodes:\n"
        "- {id: a, type: ecko, depends_on: [zz]}\n"
        "- {id: b, type: told, config: {count: x}, when: '1 +'}\n"
        "- {id: c, type: echo, config: {value: '{{ nothing }}'}, retires: {}}\n"
        "finally: [{id: d, type: echo, depends_on: [a]}]\n"
    )
    codes = [(p.code, p.line) for p in problems(text)]
    assert codes == [
        ("unknown_node_type", 4),
        ("unknown_dependency", 4),
        ("bad_config", 5),
        ("expression_syntax", 5),
        ("unknown_name", 6),
        ("unknown_key", 6),
        ("unknown_dependency", 7),
    ]


@pytest.mark.parametrize(
    ("key", "ours"),
    [
        ("trigger_rule", "run_if"),
        ("withParam", "for_each"),
        ("dependsOn", "depends_on"),
        ("retryStrategy", "retry"),
        ("timeoutInSeconds", "timeout"),
        ("MaxConcurrency", "max_parallel"),
        ("runs-on", "queue"),
        ("continueOnFail", "on_error"),
    ],
)
def test_a_key_of_another_system_is_told_what_it_is_called_here(key: str, ours: str):
    assert found(HEAD + f"- {{id: a, type: echo, {key}: x}}\n") == [("unknown_key", 4, 23, ours)]


def test_wrong_shapes_do_not_hide_wrong_keys_and_graphs():
    text = "version: 2\nname: t\nnodes:\n- {id: a, type: 3, dependson: []}\n- {id: b, type: echo, depends_on: [nope]}\n"
    assert {p.code for p in problems(text)} == {"bad_value", "unknown_key", "unknown_dependency"}


def test_the_message_names_place_and_suggestion():
    (problem,) = problems(CASES["unknown type"][0])
    assert str(problem) == "line 4, column 11: Unknown node type: ecko (did you mean 'echo'?)"
    assert problem.as_dict() == {
        "code": "unknown_node_type",
        "detail": "Unknown node type: ecko",
        "pointer": "/nodes/0/type",
        "line": 4,
        "column": 11,
        "suggestion": "echo",
    }


def test_nothing_runs_when_something_is_wrong():
    with pytest.raises(DefinitionError):
        compile_plan(workflow(node("a"), node("b", "nope")), REGISTRY)


@pytest.mark.parametrize(
    "nodes",
    [
        [node("a"), node("b", "echo", "a"), node("c", "echo", "b", config={"value": "{{ a }} {{ nodes.a.output }}"})],
        [node("a", "told", config={"count": "{{ input.n }}"})],
        [node("a", config={"value": "{% for x in input.xs %}{{ loop.index }}{{ x }}{% endfor %}"})],
        [node("a", when="any(x > 1 for x in input.xs)")],
        [node("a", config={"value": "{{ range(3) | list }} {{ dict(a=1) }}"})],
        [node("a", config={"value": "{% set y = 1 %}{{ y }}"})],
        [node("my-node"), node("b", "echo", "my-node", config={"value": "{{ nodes['my-node'].output }}"})],
    ],
)
def test_what_is_right_is_not_complained_about(nodes: list[dict[str, object]]):
    assert check_workflow(workflow(*nodes), REGISTRY) == []


def test_on_failure_and_finally_see_the_whole_graph():
    definition = workflow(
        node("a"),
        on_failure=[node("p", config={"value": "{{ a }} {{ run.error.message }}"})],
        **{"finally": [node("z", config={"value": "{{ a }} {{ p }}"})]},
    )
    assert check_workflow(definition, REGISTRY) == []


def test_a_graph_of_ten_thousand_nodes_is_allowed_and_one_more_is_not():
    nodes = [node(f"n{i}", "echo", *([f"n{i - 1}"] if i else [])) for i in range(10_000)]
    assert check_workflow(workflow(*nodes), REGISTRY) == []
    (problem,) = check_workflow(workflow(*nodes, node("more")), REGISTRY)
    assert problem.code == "too_many_nodes"


def test_a_v1_class_may_have_a_config_that_is_no_model():
    class Old(stage.BaseNode):
        node_type = "old"

        class Config:
            anything = 1

        async def execute(self, config: object, context: object) -> object:
            return None

    registry = stage.registry()
    registry.register(Old)
    assert check_workflow(workflow(node("a", "old", config={"x": 1})), registry) == []


def test_v1_files_are_only_checked_for_their_graph():
    text = (
        "name: t\ntrigger: {type: manual}\nnodes:\n- {id: a b, type: nope, whatever: 1, when: '1 +', depends_on: [x]}\n"
    )
    assert [p.code for p in problems(text)] == ["unknown_dependency"]


def test_two_hundred_problems_are_listed_and_then_that_there_are_more():
    listed = problems(HEAD + "".join(f"- {{id: n{i}, type: echo, dependson: []}}\n" for i in range(201)))
    assert [p.code for p in listed if p.code != "unknown_key"] == ["too_many_problems"]
    assert len(listed) == 201
    assert len(problems(HEAD + "".join(f"- {{id: n{i}, type: echo, dependson: []}}\n" for i in range(200)))) == 200


@pytest.mark.parametrize(
    ("word", "known", "nearest"),
    [
        ("chrage", ["change", "charge", "ship"], "charge"),
        ("abc", ["cba", "abd"], "abd"),
        ("ship", ["charge"], None),
        ("x" * 65, ["x" * 64], None),
        ("n1001", [f"n{i}" for i in range(1001)], None),
        ("", ["a"], None),
    ],
)
def test_the_nearest_name_is_suggested_if_it_is_found_quickly(word: str, known: list[str], nearest: str | None):
    assert suggest(word, known) == nearest


OWN_KEYS = """
version: 2
name: own
x-owner: {team: [a, b], note: "{{ nothing }}"}
x-retry: &often {max_attempts: 9}
settings: {timeout: 5m, x-why: slow}
triggers: [{id: by-hand, type: manual, x-who: ada}]
nodes:
  - id: a
    type: echo
    x-ticket: 17
    retry: {<<: *often, x-note: flaky}
    config: {value: hello}
    compensate: {type: echo, x-safe: true, config: {value: undone}}
finally: [{id: z, type: echo, x-last: yes, config: {value: bye}}]
"""


def test_keys_of_the_author_are_kept_and_not_looked_at():
    assert problems(OWN_KEYS) == []
    definition = parse_workflow(OWN_KEYS)
    jsonschema.Draft202012Validator(json_schema()).validate(definition.canonical())
    again = parse_workflow(json.dumps(definition.canonical()), "json")
    assert (again.canonical(), again.canonical()["nodes"][0]["x-ticket"]) == (definition.canonical(), 17)
    assert definition.nodes[0].retry.max_attempts == 9


@pytest.mark.parametrize("key", ["xowner", "X-owner", "x_owner", "-x-owner"])
def test_only_keys_that_begin_with_the_prefix_are_the_authors(key: str):
    text = OWN_KEYS.replace("x-ticket", key)
    assert [problem.code for problem in problems(text)] == ["unknown_key"]
    assert not jsonschema.Draft202012Validator(json_schema()).is_valid(parse_workflow(text).canonical())
