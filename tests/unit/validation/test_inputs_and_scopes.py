"""What goes into a run and comes out of it, and what templates and expressions can see."""

from typing import Any

import pytest

from pyflow.core.errors import DefinitionError, InputError
from pyflow.core.ports import MappingSecrets
from pyflow.documents.models import WorkflowDef
from pyflow.validation.checker import check_workflow
from tests.support.factories import stage
from tests.support.factories.stage import node, workflow

SCHEMA = {
    "type": "object",
    "required": ["id"],
    "properties": {"id": {"type": "string"}, "count": {"type": "integer", "default": 2, "minimum": 1}},
}


async def test_the_input_is_seen_by_templates_and_expressions_with_its_type():
    definition = workflow(node("a", config={"value": "{{ input.count }}"}, when="input.count > 1"), inputs=SCHEMA)
    result = await stage.run(definition, input={"id": "x", "count": 3})
    assert result.nodes["a"].output == 3


async def test_a_default_of_the_schema_is_filled_in():
    definition = workflow(node("a", config={"value": "{{ input }}"}), inputs=SCHEMA)
    assert (await stage.run(definition, input={"id": "x"})).nodes["a"].output == {"id": "x", "count": 2}


async def test_a_default_is_not_shared_between_runs():
    schema = {"type": "object", "properties": {"tags": {"type": "array", "default": []}}}
    definition = workflow(node("a", "tag", config={"tags": "{{ input.tags }}"}), inputs=schema)
    for _ in range(2):
        result = await stage.run(definition, {"tag": lambda config, _: config["tags"].append(1) or config["tags"]})
        assert result.nodes["a"].output == [1]


async def test_everything_that_is_wrong_with_an_input_is_said_at_once():
    with pytest.raises(InputError) as caught:
        await stage.run(workflow(node("a"), inputs=SCHEMA), input={"count": 0})
    assert {problem.pointer for problem in caught.value.problems} == {"", "/count"}


@pytest.mark.parametrize(
    ("shorthand", "given", "fits"),
    [
        ({"id": "string"}, {"id": "x"}, True),
        ({"id": "string"}, {}, False),
        ({"id": "string"}, {"id": 1}, False),
        ({"id": "string?"}, {}, True),
        ({"n": {"type": "integer", "default": 1}}, {}, True),
        ({"n": {"type": "integer", "required": False}}, {}, True),
        ({"type": "string"}, {"type": "a field named type"}, True),
    ],
)
async def test_the_shorthand_is_the_schema_it_stands_for(shorthand: dict[str, Any], given: dict[str, Any], fits: bool):
    definition = workflow(node("a"), inputs=shorthand)
    if fits:
        assert (await stage.run(definition, input=given)).succeeded
    else:
        with pytest.raises(InputError):
            await stage.run(definition, input=given)


def test_a_shorthand_with_an_unknown_type_is_refused():
    with pytest.raises(ValueError, match="'text' is not one of"):
        workflow(node("a"), inputs={"id": "text"})


@pytest.mark.parametrize(
    "schema", [{"type": "object", "properties": {"a": {"type": "nope"}}}, {"$ref": "http://x.example/"}]
)
async def test_a_schema_that_cannot_be_used_is_refused_before_anything_runs(schema: dict[str, Any]):
    with pytest.raises(DefinitionError, match="inputs"):
        await stage.run(workflow(node("a"), inputs=schema))


@pytest.mark.parametrize("given", [[1], "text", 3])
async def test_an_input_is_a_mapping(given: Any):
    with pytest.raises(InputError):
        await stage.run(workflow(node("a")), input=given)


async def test_outputs_are_rendered_with_their_types():
    outputs = {"n": "{{ a }}", "text": "n={{ a }}", "nested": [{"state": "{{ run.state }}"}], "plain": 1}
    result = await stage.run(workflow(node("a", config={"value": 7}), outputs=outputs))
    assert result.outputs == {"n": 7, "text": "n=7", "nested": [{"state": "succeeded"}], "plain": 1}


async def test_outputs_that_do_not_render_fail_the_run():
    result = await stage.run(workflow(node("a", config={"value": {}}), outputs={"x": "{{ a.missing }}"}))
    assert result.state == "failed"
    assert result.error is not None
    assert result.error.node_id is None
    assert result.outputs is None


async def test_a_failed_run_has_no_outputs():
    result = await stage.run(workflow(node("a", "fail"), outputs={"x": 1}))
    assert result.outputs is None


async def test_every_name_of_the_scope():
    template = (
        "{{ input.i }} {{ trigger.t }} {{ run.id }} {{ run.workflow }} {{ run.state }} {{ secrets.S }} {{ vars.v }} "
        "{{ nodes.a.output }} {{ a }}"
    )
    definition = workflow(
        node("a", config={"value": "A"}), node("b", "echo", "a", config={"value": template}), vars={"v": "V"}
    )
    result = await stage.run(
        definition,
        run_id="r1",
        input={"i": "I"},
        initial_context={"trigger": {"t": "T"}},
        secrets=MappingSecrets({"S": "sesame"}),
    )
    assert result.nodes["b"].output == "I T r1 test running *** V A A"


async def test_run_now_is_the_time_at_which_the_node_is_rendered_by_the_clock_of_the_engine():
    clock = stage.Clock(1_700_000_000.0)
    shown = {"value": "{{ run.now }}", "again": "at {{ run.now }}"}
    definition = workflow(
        node("a", "give", config=shown),
        node("nap", "nap", "a"),
        node("b", "give", "nap", config=shown, when="run.now > run.started_at and run['now'] > a.value"),
        node("each", "give", "b", for_each=[1], config={"value": "{{ run.now }}"}),
        outputs={"ended": "{{ run.now }}"},
        **{"finally": [node("z", "give", config={"value": "{{ run.now }} {{ run.state }}"})]},
    )
    functions = {"nap": lambda config, context: clock.sleep(90.5), "give": lambda config, context: config}
    result = await stage.run(definition, functions, clock=clock)
    first, later = "2023-11-14T22:13:20.000000Z", "2023-11-14T22:14:50.500000Z"
    assert result.nodes["a"].output == {"value": first, "again": f"at {first}"}
    assert result.nodes["b"].output == {"value": later, "again": f"at {later}"}
    assert result.nodes["each"].output == [{"value": later}]
    assert result.nodes["z"].output == {"value": f"{later} succeeded"}
    assert result.outputs == {"ended": later}


async def test_a_node_that_keeps_its_scope_sees_the_time_go_by():
    clock = stage.Clock(1_700_000_000.0)

    async def look(config: Any, context: Any) -> list[str]:
        before = context.scope["run"]["now"]
        await clock.sleep(5)
        return [before, context.scope["run"]["now"]]

    result = await stage.run(
        workflow(node("nap", "nap"), node("a", "look", "nap")),
        {"look": look, "nap": lambda config, context: clock.sleep(60)},
        clock=clock,
    )
    assert result.nodes["a"].output == ["2023-11-14T22:14:20.000000Z", "2023-11-14T22:14:25.000000Z"]


async def test_a_retried_node_has_the_time_of_its_attempt():
    clock = stage.Clock(1_700_000_000.0)
    seen: list[str] = []

    def fail_once(config: Any, context: Any) -> None:
        seen.append(config["at"])
        if len(seen) == 1:
            raise RuntimeError("again")

    retry = {"max_attempts": 2, "initial_interval": "10s"}
    await stage.run(
        workflow(node("a", "once", config={"at": "{{ run.now }}"}, retry=retry)), {"once": fail_once}, clock=clock
    )
    assert seen == ["2023-11-14T22:13:20.000000Z", "2023-11-14T22:13:30.000000Z"]


async def test_the_same_names_are_there_in_expressions():
    when = (
        "input.i == 1 and trigger.t == 2 and run.id == 'r1' and vars.v == 3 and a == 4 and nodes.a.output == 4"
        " and secrets.S"
    )
    definition = workflow(node("a", config={"value": 4}), node("b", "echo", "a", when=when), vars={"v": 3})
    result = await stage.run(
        definition,
        run_id="r1",
        input={"i": 1},
        initial_context={"trigger": {"t": 2}},
        secrets=MappingSecrets({"S": "sesame"}),
    )
    assert stage.states(result)["b"] == "succeeded"


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ a }}", {"n": [1, 2]}),
        ("{{ a.n }}", [1, 2]),
        ("{{ a['n'][1] }}", 2),
        ("{{ a.n | length }}", 2),
        ("{{ a.n[0] + 1 }}", 2),
        (" {{ a.n[0] }}", " 1"),
        ("{{ a.n[0] }}{{ a.n[1] }}", "12"),
        ("{{ a.n | map('string') }}", ["1", "2"]),
        ("{{ true }}", True),
        ("{{ null }}", None),
    ],
)
async def test_a_string_that_is_exactly_one_expression_keeps_its_type(template: str, value: Any):
    definition = workflow(
        node("a", config={"value": {"n": [1, 2]}}), node("b", "echo", "a", config={"value": template})
    )
    output = (await stage.run(definition)).nodes["b"].output
    assert output == value
    assert type(output) is type(value)


async def test_a_secret_that_does_not_exist_fails_the_node():
    result = await stage.run(workflow(node("a", config={"value": "{{ secrets.NOPE }}"})), secrets=MappingSecrets({}))
    assert result.state == "failed"
    assert result.error is not None
    assert "NOPE" in result.error.message


async def test_a_config_without_templates_is_given_to_each_run_anew():
    definition = workflow(node("a", "grow", config={"items": [{"x": []}]}))
    for _ in range(2):
        result = await stage.run(definition, {"grow": lambda config, _: config["items"][0]["x"].append(1) or config})
        assert result.nodes["a"].output == {"items": [{"x": [1]}]}


async def test_a_version_2_type_gets_its_model_attempt_and_key():
    definition = workflow(node("a", "told", config={"count": "{{ 1 + 1 }}"}))
    result = await stage.run(definition, run_id="r1")
    assert result.nodes["a"].output == {"text": "xx", "attempt": 1, "key": "r1:a"}


async def test_a_version_2_type_refuses_a_rendered_config_that_does_not_fit():
    definition = workflow(node("a", "told", config={"count": "{{ input.n }}"}))
    result = await stage.run(definition, input={"n": "many"})
    assert result.state == "failed"
    assert result.error is not None
    assert (result.error.type, result.error.code) == ("ConfigInvalidError", "config_invalid")


def test_a_definition_survives_its_canonical_form():
    definition = workflow(
        node("a", retry={"max_attempts": 2, "initial_interval": "5s"}, timeout="1m"),
        inputs={"id": "string"},
        **{"finally": [node("z")]},
    )
    again = WorkflowDef.model_validate(definition.canonical())
    assert again == definition
    assert again.checksum() == definition.checksum()
    assert workflow(node("b")).checksum() != definition.checksum()


@pytest.mark.parametrize(
    ("inputs", "given", "near"),
    [
        ({"email": "string?"}, {"emial": "x"}, "email"),
        ({"count": {"type": "integer", "default": 1}}, {"counts": 3}, "count"),
        (SCHEMA, {"id": "x", "cuont": 3}, "count"),
        ({"id": "string?"}, {"ID": "x"}, "id"),
        ({"url": "string?"}, {"Url": "x"}, "url"),
        ({"order_id": "string?"}, {"orderID": "x"}, "order_id"),
        ({"email": "string?"}, {"email": "x", "emial": "y"}, None),  # the other one is given
        ({"email": "string?"}, {"source": "webhook"}, None),
        ({"type": "object", "properties": {"email": {}}, "additionalProperties": True}, {"emial": "x"}, None),
        (None, {"emial": "x"}, None),
    ],
)
async def test_an_input_that_is_nearly_a_declared_one_is_refused(
    inputs: dict[str, Any] | None, given: dict[str, Any], near: str | None
):
    definition = workflow(node("a"), inputs=inputs)
    if near is None:
        assert (await stage.run(definition, input=given)).succeeded
        return
    with pytest.raises(InputError, match=rf"did you mean '{near}'\?") as caught:
        await stage.run(definition, input=given)
    assert [(problem.code, problem.suggestion) for problem in caught.value.problems] == [("unknown_input", near)]


CLOSED = {"type": "object", "properties": {"email": {}}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("inputs", "found"),
    [
        (CLOSED, [("/nodes/0/config/value", "email"), ("/nodes/0/when", None)]),
        (CLOSED | {"patternProperties": {"^e": {}}}, []),
        ({"email": "string"}, []),
        (None, []),
    ],
)
def test_a_reference_to_an_input_that_no_run_can_have_is_refused(inputs: Any, found: list[tuple[str, str | None]]):
    definition = workflow(node("a", config={"value": "{{ input.emial }}"}, when="input.x == 1"), inputs=inputs)
    problems = [each for each in check_workflow(definition, stage.registry()) if each.code == "unknown_name"]
    assert sorted((each.pointer, each.suggestion) for each in problems) == found
