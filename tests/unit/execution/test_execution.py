"""A run in progress: time limits, cancelling, sinks, tasks and context variables."""

import asyncio
from contextvars import ContextVar
from typing import Any

import pytest

from pyflow.core.events import Event, EventType
from pyflow.core.ports import MappingSecrets
from pyflow.execution.engine import WorkflowEngine
from tests.support.factories import stage
from tests.support.factories.stage import node, workflow

FINALLY = {"finally": [node("log", config={"value": "{{ run.state }}"})]}


async def test_a_node_that_takes_longer_than_its_timeout_is_timed_out():
    result = await stage.run(workflow(node("a", "waits", timeout="1ms"), node("b", "echo", "a", run_if="any_failed")))
    assert stage.states(result) == {"a": "timed_out", "b": "succeeded"}
    assert result.state == "failed"
    assert result.error is not None
    assert result.error.code == "node_timeout"


async def test_a_timeout_error_of_the_node_itself_is_a_failure_like_any_other():
    def raises(*_: Any) -> None:
        raise TimeoutError("theirs")

    result = await stage.run(workflow(node("a", "raises", timeout="1h")), {"raises": raises})
    assert stage.states(result) == {"a": "failed"}


async def test_a_run_that_takes_longer_than_its_timeout_ends_as_timed_out():
    definition = workflow(
        node("a", "waits"), node("b", "echo", "a"), settings={"timeout": "1ms"}, on_failure=[node("page")], **FINALLY
    )
    sink = stage.Sink()
    result = await stage.run(definition, sink=sink)
    assert result.state == "timed_out"
    assert stage.states(result) == {"a": "cancelled", "b": "cancelled", "page": "succeeded", "log": "succeeded"}
    assert result.nodes["log"].output == "timed_out"
    assert result.error is not None
    assert result.error.code == "run_timeout"
    assert sink.events[-1].type is EventType.RUN_FAILED
    assert sink.events[-1].data["state"] == "timed_out"


class TestCancelling:
    async def cancelled(self, *nodes: dict[str, Any], **fields: Any):
        """Cancel once the node of type `begin` runs."""
        begun = asyncio.Event()

        async def begin(*_: Any) -> None:
            begun.set()
            await asyncio.Event().wait()

        sink = stage.Sink()
        execution = stage.start(
            WorkflowEngine(stage.registry(begin=begin), clock=fields.pop("clock", None)),
            workflow(*nodes, **fields),
            sink=sink,
        )
        waiting = asyncio.ensure_future(execution.wait())
        await begun.wait()
        execution.cancel()
        return await waiting, sink

    async def test_running_nodes_are_cancelled_and_finally_runs(self):
        result, sink = await self.cancelled(
            node("a", "begin"), node("b", "echo", "a"), on_failure=[node("page")], **FINALLY
        )
        assert result.state == "cancelled"
        assert stage.states(result) == {"a": "cancelled", "b": "cancelled", "page": "skipped", "log": "succeeded"}
        assert result.nodes["log"].output == "cancelled"
        assert sink.events[-1].type is EventType.RUN_CANCELLED

    async def test_a_second_cancel_changes_nothing(self):
        begun = asyncio.Event()

        async def begin(*_: Any) -> None:
            begun.set()
            await asyncio.Event().wait()

        execution = stage.start(WorkflowEngine(stage.registry(begin=begin)), workflow(node("a", "begin"), **FINALLY))
        waiting = asyncio.ensure_future(execution.wait())
        await begun.wait()
        execution.cancel()
        execution.cancel()
        result = await waiting
        execution.cancel()
        assert stage.states(result) == {"a": "cancelled", "log": "succeeded"}

    async def test_a_node_that_finishes_although_cancelled_keeps_its_result(self):
        begun = asyncio.Event()

        async def stubborn(*_: Any) -> str:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return "cleaned up"
            return "unreachable"

        execution = stage.start(
            WorkflowEngine(stage.registry(stubborn=stubborn)),
            workflow(node("a", "stubborn"), node("b", "echo", "a"), **FINALLY),
        )
        waiting = asyncio.ensure_future(execution.wait())
        await begun.wait()
        execution.cancel()
        result = await waiting
        assert stage.states(result) == {"a": "succeeded", "b": "cancelled", "log": "succeeded"}
        assert result.nodes["a"].output == "cleaned up"
        assert result.state == "cancelled"

    async def test_a_node_that_waits_for_its_next_attempt_is_cancelled(self):
        clock = stage.StandingClock()
        definition = workflow(node("a", "fail", retry={}), node("b", "echo", "a"), **FINALLY)
        execution = stage.start(WorkflowEngine(stage.registry(), clock=clock), definition)
        waiting = asyncio.ensure_future(execution.wait())
        await clock.asleep.wait()
        execution.cancel()
        result = await waiting
        assert stage.states(result) == {"a": "cancelled", "b": "cancelled", "log": "succeeded"}

    async def test_a_run_cancelled_before_it_began_runs_only_finally(self):
        execution = stage.start(WorkflowEngine(stage.registry()), workflow(node("a"), **FINALLY))
        execution.cancel()
        result = await execution.wait()
        assert result.state == "cancelled"
        assert stage.states(result) == {"a": "cancelled", "log": "succeeded"}

    async def test_finally_nodes_of_a_cancelled_run_do_not_see_the_cancellation(self):
        seen: list[bool] = []
        begun = asyncio.Event()

        class Looks(stage.BaseNodeV2[stage.Told.Config]):
            node_type = "looks"
            Config = stage.Told.Config

            async def run(self, config: Any, ctx: Any) -> None:
                seen.append(ctx.cancelled)

        async def begin(*_: Any) -> None:
            begun.set()
            await asyncio.Event().wait()

        registry = stage.registry(begin=begin)
        registry.register(Looks)
        definition = workflow(node("a", "begin"), **{"finally": [node("log", "looks", config={"count": 1})]})
        execution = stage.start(WorkflowEngine(registry), definition)
        waiting = asyncio.ensure_future(execution.wait())
        await begun.wait()
        execution.cancel()
        await waiting
        assert seen == [False]

    async def test_finally_nodes_of_a_cancelled_run_are_tried_again_as_they_ask(self):
        attempts: list[int] = []

        def flaky(*_: Any) -> None:
            attempts.append(1)
            if len(attempts) == 1:
                raise RuntimeError("no")

        begun = asyncio.Event()

        async def begin(*_: Any) -> None:
            begun.set()
            await asyncio.Event().wait()

        definition = workflow(node("a", "begin"), **{"finally": [node("log", "flaky", retry={"max_attempts": 2})]})
        engine = WorkflowEngine(stage.registry(begin=begin, flaky=flaky), clock=stage.Clock())
        execution = stage.start(engine, definition)
        waiting = asyncio.ensure_future(execution.wait())
        await begun.wait()
        execution.cancel()
        result = await waiting
        assert stage.states(result)["log"] == "succeeded"


class TestSinks:
    class Refuses(stage.Sink):
        """Cannot record that a given node succeeded."""

        def __init__(self, node_id: str) -> None:
            super().__init__()
            self.node_id = node_id

        async def commit(self, event: Event) -> None:
            if event.node_id == self.node_id and event.type is EventType.NODE_SUCCEEDED:
                raise ConnectionError("the database is gone")
            await super().commit(event)

    async def test_a_completion_that_cannot_be_recorded_ends_the_run_and_nothing_that_follows_starts(self):
        sink = self.Refuses("a")
        with pytest.raises(ConnectionError, match="the database is gone"):
            await stage.run(workflow(node("a"), node("b", "echo", "a")), sink=sink)
        assert sink.trail() == ["run.started", "node.started a"]

    async def test_an_end_that_cannot_be_recorded_is_raised(self):
        class NoEnd(stage.Sink):
            async def commit(self, event: Event) -> None:
                if event.type is EventType.RUN_SUCCEEDED:
                    raise ConnectionError("gone")

        with pytest.raises(ConnectionError):
            await stage.run(workflow(node("a")), sink=NoEnd())

    async def test_a_slow_sink_holds_dependents_back_but_not_independent_nodes(self):
        release, other_done = asyncio.Event(), asyncio.Event()
        sink = stage.Sink()

        class Slow(stage.Sink):
            async def commit(self, event: Event) -> None:
                if event.type is EventType.NODE_SUCCEEDED and event.node_id == "a":
                    await release.wait()
                sink.events.append(event)
                if event.node_id == "other2":
                    other_done.set()

            def emit(self, event: Event) -> None:
                sink.events.append(event)

        definition = workflow(node("a"), node("b", "echo", "a"), node("other"), node("other2", "echo", "other"))
        execution = stage.start(WorkflowEngine(stage.registry()), definition, sink=Slow())
        waiting = asyncio.ensure_future(execution.wait())
        await other_done.wait()
        assert "node.started b" not in sink.trail()
        release.set()
        assert (await waiting).succeeded
        assert "node.started b" in sink.trail()

    async def test_events_are_numbered_in_order_without_gaps(self):
        sink = stage.Sink()
        await stage.run(workflow(node("a"), node("b", "fail", "a"), node("c", "echo", "b"), **FINALLY), sink=sink)
        assert [event.seq for event in sink.events] == list(range(1, len(sink.events) + 1))
        assert sink.trail()[0] == "run.started"
        assert sink.trail()[-1] == "run.failed"

    async def test_an_event_as_data(self):
        sink = stage.Sink()
        await stage.run(workflow(node("a", config={"value": 1})), sink=sink, run_id="r1", clock=stage.Clock(0))
        assert sink.of(EventType.NODE_SUCCEEDED)[0].as_dict() == {
            "seq": 3,
            "type": "node.succeeded",
            "at": "1970-01-01T00:00:00.000000Z",
            "workflow": "test",
            "run_id": "r1",
            "node_id": "a",
            "data": {"attempt": 1, "output": 1},
        }


VARIABLE: ContextVar[str] = ContextVar("variable", default="unset")


class TestTasks:
    async def test_what_a_node_sets_in_its_context_is_seen_by_no_other_and_not_by_the_caller(self):
        seen: list[str] = []

        def sets(config: dict[str, Any], _: Any) -> None:
            seen.append(VARIABLE.get())
            VARIABLE.set(config["value"])

        nodes = [node(f"n{i}", "sets", *([f"n{i - 1}"] if i % 3 else []), config={"value": str(i)}) for i in range(9)]
        await stage.run(workflow(*nodes), {"sets": sets})
        assert seen == ["unset"] * 9
        assert VARIABLE.get() == "unset"

    async def test_nodes_see_what_the_caller_set(self):
        seen: list[str] = []
        token = VARIABLE.set("from the caller")
        try:
            await stage.run(workflow(node("a", "looks")), {"looks": lambda *_: seen.append(VARIABLE.get())})
        finally:
            VARIABLE.reset(token)
        assert seen == ["from the caller"]

    async def test_a_node_that_cancels_its_own_task_fails_alone(self):
        async def cancels(*_: Any) -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.Event().wait()

        definition = workflow(node("a", "cancels", on_error="continue"), node("b"), node("c", "echo", "b"))
        result = await stage.run(definition, {"cancels": cancels})
        assert stage.states(result) == {"a": "failed", "b": "succeeded", "c": "succeeded"}

    async def test_a_node_that_leaves_a_cancellation_behind_is_recorded_all_the_same(self):
        """Even when recording it has to wait."""

        class Waits(stage.Sink):
            async def commit(self, event: Event) -> None:
                await asyncio.get_running_loop().run_in_executor(None, lambda: None)
                await super().commit(event)

        async def cancels(*_: Any) -> str:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            return "done"

        sink = Waits()
        result = await stage.run(
            workflow(node("a", "cancels"), node("b", "echo", "a")), {"cancels": cancels}, sink=sink
        )
        assert stage.states(result) == {"a": "succeeded", "b": "succeeded"}

    async def test_a_wait_that_is_abandoned_leaves_no_tasks(self):
        begun = asyncio.Event()

        async def begin(*_: Any) -> None:
            begun.set()
            await asyncio.Event().wait()

        before = asyncio.all_tasks()
        definition = workflow(
            node("a", "begin"), node("b", "waits"), node("c", "fail", retry={}), settings={"timeout": "1h"}
        )
        sink = stage.Sink()
        waiting = asyncio.ensure_future(
            stage.start(WorkflowEngine(stage.registry(begin=begin)), definition, sink=sink).wait()
        )
        await begun.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert asyncio.all_tasks() == before
        assert "node.failed a" not in sink.trail()  # like a crash: nothing is recorded
        assert "run.cancelled" not in sink.trail()

    async def test_a_finished_run_leaves_no_tasks(self):
        before = asyncio.all_tasks()
        await stage.run(workflow(node("a"), node("b", "fail"), settings={"timeout": "1h"}))
        assert asyncio.all_tasks() == before

    async def test_independent_nodes_run_at_the_same_time(self):
        barrier = asyncio.Barrier(20)
        nodes = [node(f"n{i}", "meet") for i in range(20)]
        assert (await stage.run(workflow(*nodes), {"meet": lambda *_: barrier.wait()})).succeeded

    async def test_a_node_starts_when_its_own_dependencies_are_done_not_a_whole_level(self):
        release = asyncio.Event()
        definition = workflow(node("slow", "hold"), node("quick"), node("next", "release", "quick"))
        functions = {"hold": lambda *_: release.wait(), "release": lambda *_: release.set()}
        assert (await stage.run(definition, functions)).succeeded

    async def test_many_runs_share_a_loop(self):
        barrier = asyncio.Barrier(100)
        definition = workflow(node("a", "meet"), node("b", "echo", "a", config={"value": "{{ input.n }}"}))
        engine = WorkflowEngine(stage.registry(meet=lambda *_: barrier.wait()))
        results = await asyncio.gather(*(engine.execute(definition, input={"n": n}) for n in range(100)))
        assert [result.nodes["b"].output for result in results] == list(range(100))
        assert len({result.run_id for result in results}) == 100

    async def test_a_plain_function_runs_in_a_thread_and_may_block(self):
        import threading

        met = threading.Barrier(2)

        class Blocks(stage.BaseNodeV2[stage.Told.Config]):
            node_type = "blocks"
            Config = stage.Told.Config

            def run(self, config: Any, ctx: Any) -> str:
                met.wait()
                return threading.current_thread().name

        registry = stage.registry()
        registry.register(Blocks)
        nodes = [node(id, "blocks", config={"count": 1}) for id in "ab"]
        result = await WorkflowEngine(registry).execute(workflow(*nodes))
        assert result.succeeded
        assert threading.main_thread().name not in {run.output for run in result.nodes.values()}

    async def test_an_error_whose_text_cannot_be_made_is_still_an_error(self):
        class OddError(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no text")

        def raises(*_: Any) -> None:
            raise OddError

        result = await stage.run(workflow(node("a", "raises", on_error="continue"), node("b")), {"raises": raises})
        assert stage.states(result) == {"a": "failed", "b": "succeeded"}


#: Three times as deep as the stack of Python may become.
CHAIN = 3_000


class TestSize:
    @pytest.mark.parametrize("order", [1, -1])
    async def test_a_long_chain_in_any_order_needs_no_recursion(self, order: int):
        nodes = [node(f"n{i}", "echo", *([f"n{i - 1}"] if i else [])) for i in range(CHAIN)][::order]
        result = await stage.run(workflow(*nodes))
        assert result.succeeded
        assert all(run.state == "succeeded" for run in result.nodes.values())

    async def test_a_chain_of_skips_needs_no_recursion(self):
        nodes = [node("n0", when="false"), *(node(f"n{i}", "echo", f"n{i - 1}") for i in range(1, CHAIN))]
        result = await stage.run(workflow(*nodes))
        assert all(run.state == "skipped" for run in result.nodes.values())

    async def test_a_fan_of_ten_thousand(self):
        nodes = [node("first"), *(node(f"n{i}", "echo", "first") for i in range(10_000))]
        nodes.append(node("last", "echo", *(f"n{i}" for i in range(10_000))))
        sink = stage.Sink()
        result = await stage.run(stage.v1(*nodes), sink=sink)
        assert all(run.state == "succeeded" for run in result.nodes.values())
        assert sink.trail()[-2] == "node.succeeded last"

    async def test_the_order_in_the_file_does_not_matter(self):
        nodes = [
            node("a", config={"value": 1}),
            node("b", "echo", "a", config={"value": "{{ a }}"}),
            node("c", "fail", "b"),
        ]
        there, back = await stage.run(workflow(*nodes)), await stage.run(workflow(*nodes[::-1]))
        assert stage.states(there) == stage.states(back) == {"a": "succeeded", "b": "succeeded", "c": "failed"}


async def test_secrets_are_masked_wherever_a_run_shows_something():
    secret = 'pa$$ "wörd"/x'
    sink = stage.Sink()

    def leaks(config: dict[str, Any], _: Any) -> None:
        raise RuntimeError(f"login with {config['value']} failed: {config['value']!r}")

    definition = workflow(
        node(
            "a",
            config={"value": {"{{ 1 }}": "{{ secrets.S }}", "in": ["{{ secrets.S }}!", "{{ secrets.S|urlencode }}"]}},
        ),
        node("b", "leaks", "a", config={"value": "{{ secrets.S }}"}, retry={"max_attempts": 2}, on_error="skip"),
        outputs={"x": "{{ a }}", "y": "{{ secrets.S|tojson }}"},
    )
    result = await stage.run(
        definition, {"leaks": leaks}, sink=sink, secrets=MappingSecrets({"S": secret}), clock=stage.Clock()
    )
    assert result.succeeded
    shown = repr([event.as_dict() for event in sink.events]) + repr(result.as_dict()) + repr(result.outputs)
    assert "wörd" not in shown
    assert "w%C3%B6rd" not in shown
    assert "w\\u00f6rd" not in shown
    assert "***" in shown
    assert result.nodes["a"].output["in"][0] == "***!"  # other nodes see what is on record, as after a restart


async def test_a_secret_at_the_end_of_a_long_message_is_not_cut_open():
    secret = "correct-horse-battery-staple"
    sink = stage.Sink()

    def leaks(config: dict[str, Any], _: Any) -> None:
        raise RuntimeError("x" * 3990 + config["value"])

    definition = workflow(node("a", "leaks", config={"value": "{{ secrets.S }}"}))
    await stage.run(definition, {"leaks": leaks}, sink=sink, secrets=MappingSecrets({"S": secret}))
    assert "correct-h" not in repr([event.as_dict() for event in sink.events])


async def test_an_output_without_end_does_not_end_the_run():
    def endless(config: dict[str, Any], _: Any) -> list[Any]:
        value: list[Any] = [config["value"]]
        value.append(value)
        return value

    definition = workflow(node("a", "endless", config={"value": "{{ secrets.S }}"}), node("b", "echo", "a"))
    result = await stage.run(definition, {"endless": endless}, secrets=MappingSecrets({"S": "sesame"}))
    assert stage.states(result) == {"a": "failed", "b": "skipped"}
    error = result.nodes["a"].error
    assert error is not None
    assert (error.code, "nested deeper than 100 levels" in error.message) == ("output_not_json", True)
