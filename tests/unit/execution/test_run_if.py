"""Which nodes of a version 2 run start, by how those before them ended."""

import pytest

from pyflow.core.events import EventType
from tests.support.factories import stage
from tests.support.factories.stage import node, workflow

BEFORE = {
    "succeeded": node("a"),
    "failed": node("a", "fail", on_error="continue"),
    "skipped": node("a", when="false"),
    "timed_out": node("a", "waits", on_error="continue", timeout=0),
}
RUNS = {
    "all_succeeded": {"succeeded"},
    "none_failed": {"succeeded", "skipped"},
    "all_done": {"succeeded", "failed", "skipped", "timed_out"},
    "any_failed": {"failed", "timed_out"},
    "any_succeeded": {"succeeded"},
}


@pytest.mark.parametrize("end", BEFORE)
@pytest.mark.parametrize("run_if", RUNS)
async def test_a_node_runs_when_the_end_of_its_dependency_fits(run_if: str, end: str):
    result = await stage.run(workflow(BEFORE[end], node("b", "echo", "a", run_if=run_if)))
    assert stage.states(result) == {"a": end, "b": "succeeded" if end in RUNS[run_if] else "skipped"}


@pytest.mark.parametrize("end", BEFORE)
async def test_without_run_if_every_dependency_must_have_succeeded(end: str):
    result = await stage.run(workflow(BEFORE[end], node("b", "echo", "a")))
    assert stage.states(result)["b"] == ("succeeded" if end == "succeeded" else "skipped")


@pytest.mark.parametrize(
    ("run_if", "runs"),
    [
        ("all_succeeded", False),
        ("none_failed", False),
        ("all_done", True),
        ("any_failed", True),
        ("any_succeeded", True),
    ],
)
async def test_one_of_two_dependencies_failing(run_if: str, runs: bool):
    definition = workflow(
        node("good"), node("bad", "fail", on_error="continue"), node("b", "echo", "good", "bad", run_if=run_if)
    )
    assert stage.states(await stage.run(definition))["b"] == ("succeeded" if runs else "skipped")


async def test_a_skip_goes_down_the_chain_and_says_why():
    definition = workflow(node("a", when="1 > 2"), node("b", "echo", "a"), node("c", "echo", "b"))
    sink = stage.Sink()
    result = await stage.run(definition, sink=sink)
    assert {id: run.reason for id, run in result.nodes.items()} == {
        "a": "when",
        "b": "run_if all_succeeded",
        "c": "run_if all_succeeded",
    }
    assert [(e.node_id, e.data["reason"]) for e in sink.of(EventType.NODE_SKIPPED)] == [
        ("a", "when"),
        ("b", "run_if all_succeeded"),
        ("c", "run_if all_succeeded"),
    ]
    assert result.succeeded


async def test_a_skip_in_the_middle_of_a_diamond_leaves_the_join_to_its_run_if():
    definition = workflow(
        node("a"),
        node("left", "echo", "a", when="false"),
        node("right", "echo", "a"),
        node("strict", "echo", "left", "right"),
        node("lenient", "echo", "left", "right", run_if="none_failed"),
    )
    states = stage.states(await stage.run(definition))
    assert (states["strict"], states["lenient"]) == ("skipped", "succeeded")


async def test_a_when_that_cannot_be_evaluated_fails_the_node():
    result = await stage.run(workflow(node("a", when="input.missing > 1"), node("b", "echo", "a")))
    assert stage.states(result) == {"a": "failed", "b": "skipped"}
    assert result.state == "failed"
    assert result.error is not None
    assert result.error.node_id == "a"
    assert "missing" in result.error.message


async def test_stop_lets_what_is_ready_finish_and_starts_nothing_that_follows():
    seen: list[str] = []
    definition = workflow(
        node("bad", "fail"),
        node("other", "note", config={"id": "other"}),
        node("after", "note", "other", config={"id": "after"}),
        node("cleans", "note", "other", config={"id": "cleans"}, run_if="all_done"),
    )
    result = await stage.run(definition, {"note": lambda config, _: seen.append(config["id"])})
    assert stage.states(result) == {
        "bad": "failed",
        "other": "succeeded",
        "after": "skipped",
        "cleans": "succeeded",
    }
    assert result.nodes["after"].reason == "stopped"
    assert seen == ["other", "cleans"]


async def test_continue_fails_the_run_and_lets_the_rest_go_on():
    definition = workflow(node("bad", "fail", on_error="continue"), node("a"), node("b", "echo", "a"))
    result = await stage.run(definition)
    assert stage.states(result) == {"bad": "failed", "a": "succeeded", "b": "succeeded"}
    assert result.state == "failed"


async def test_skip_tolerates_the_failure():
    definition = workflow(node("bad", "fail", on_error="skip"), node("b", "echo", "bad", run_if="all_done"), node("c"))
    result = await stage.run(definition)
    assert stage.states(result) == {"bad": "failed", "b": "succeeded", "c": "succeeded"}
    assert result.succeeded
    assert result.error is None
    assert result.nodes["bad"].tolerated


async def test_the_first_failure_is_the_error_of_the_run():
    definition = workflow(
        node("a", "fail", on_error="continue", config={"message": "first"}),
        node("b", "fail", "a", run_if="any_failed", config={"message": "second"}),
    )
    result = await stage.run(definition, clock=stage.Clock())
    assert result.error is not None
    assert (result.error.node_id, result.error.message, result.error.type) == ("a", "first", "RuntimeError")


class TestFinishingSections:
    async def test_on_failure_runs_after_a_failure_and_finally_after_that(self):
        sink = stage.Sink()
        definition = workflow(
            node("bad", "fail", config={"message": "the cause"}),
            on_failure=[
                node("page", config={"value": "{{ run.state }}: {{ run.error.message }} ({{ run.error.node_id }})"})
            ],
            **{"finally": [node("log", config={"value": "{{ run.state }} {{ page }}"})]},
        )
        result = await stage.run(definition, sink=sink)
        assert result.state == "failed"
        assert result.nodes["page"].output == "failed: the cause (bad)"
        assert result.nodes["log"].output == "failed failed: the cause (bad)"
        order = [line for line in sink.trail() if line.startswith("node.started")]
        assert order == ["node.started bad", "node.started page", "node.started log"]

    async def test_only_finally_runs_after_a_success(self):
        definition = workflow(
            node("a", config={"value": 3}),
            on_failure=[node("page")],
            **{"finally": [node("log", config={"value": "{{ run.state }} {{ a }}"})]},
        )
        result = await stage.run(definition)
        assert stage.states(result) == {"a": "succeeded", "page": "skipped", "log": "succeeded"}
        assert result.nodes["log"].output == "succeeded 3"

    async def test_a_tolerated_failure_is_no_failure_of_the_run(self):
        definition = workflow(node("a", "fail", on_error="skip"), on_failure=[node("page")])
        assert stage.states(await stage.run(definition))["page"] == "skipped"

    async def test_a_failure_in_finally_fails_the_run_and_does_not_start_on_failure(self):
        definition = workflow(node("a"), on_failure=[node("page")], **{"finally": [node("log", "fail")]})
        result = await stage.run(definition)
        assert stage.states(result) == {"a": "succeeded", "page": "skipped", "log": "failed"}
        assert result.state == "failed"
        assert result.error is not None
        assert result.error.node_id == "log"

    async def test_a_failure_in_on_failure_leaves_the_error_of_the_run_as_it_was(self):
        definition = workflow(
            node("a", "fail", config={"message": "the cause"}),
            on_failure=[node("page", "fail"), node("after", "echo", "page")],
            **{"finally": [node("log")]},
        )
        result = await stage.run(definition)
        assert stage.states(result) == {"a": "failed", "page": "failed", "after": "skipped", "log": "succeeded"}
        assert result.error is not None
        assert result.error.message == "the cause"

    async def test_they_are_graphs_of_their_own(self):
        definition = workflow(
            node("a"),
            **{
                "finally": [
                    node("last", "echo", "first", config={"value": "{{ first }}!"}),
                    node("first", config={"value": "x"}),
                ]
            },
        )
        assert (await stage.run(definition)).nodes["last"].output == "x!"
