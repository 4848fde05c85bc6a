"""`pyflow.core.engine.WorkflowEngine`, as v1 users know it."""

import asyncio
import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest

from pyflow.core.context import ExecutionContext
from pyflow.core.engine import WorkflowEngine
from pyflow.core.models import WorkflowDef
from pyflow.core.node import BaseNode, NodeRegistry


class Recording:
    """A registry whose node types note what happens."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.failures: dict[str, int] = {}
        self.registry = NodeRegistry()
        recording = self

        class Value(BaseNode):
            node_type = "value"

            async def execute(self, config: dict[str, Any], context: ExecutionContext) -> object:
                recording.log.append(config.get("tag", ""))
                return config.get("value")

        class Boom(BaseNode):
            node_type = "boom"

            async def execute(self, config: dict[str, Any], context: ExecutionContext) -> object:
                recording.log.append(config.get("tag", ""))
                raise RuntimeError(config.get("message", "boom"))

        class Flaky(BaseNode):
            node_type = "flaky"

            async def execute(self, config: dict[str, Any], context: ExecutionContext) -> object:
                tag = config["tag"]
                recording.failures[tag] = recording.failures.get(tag, 0) + 1
                if recording.failures[tag] <= config["fails"]:
                    raise RuntimeError(f"attempt {recording.failures[tag]}")
                return "recovered"

        for cls in (Value, Boom, Flaky):
            self.registry.register(cls)

    async def run(self, *nodes: dict[str, Any], **arguments: Any) -> ExecutionContext:
        return await WorkflowEngine(registry=self.registry, **arguments.pop("engine", {})).run(
            flow(*nodes), **arguments
        )


def flow(*nodes: dict[str, Any]) -> WorkflowDef:
    return WorkflowDef(name="flow", trigger={"type": "manual"}, nodes=list(nodes))


def value(id: str, *depends_on: str, tag: str = "", give: Any = 1, **fields: Any) -> dict[str, Any]:
    return {
        "id": id,
        "type": "value",
        "config": {"tag": tag or id, "value": give},
        "depends_on": list(depends_on),
    } | fields


def boom(id: str, *depends_on: str, **fields: Any) -> dict[str, Any]:
    return {"id": id, "type": "boom", "config": {"tag": id}, "depends_on": list(depends_on)} | fields


@pytest.fixture
def engine() -> Recording:
    return Recording()


class Clock:
    """Time passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.slept: list[float] = []

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


async def test_run_returns_the_context_with_results_by_node_id(engine: Recording):
    context = await engine.run(value("a", give={"x": [1]}), value("b", "a", give=2))
    assert isinstance(context, ExecutionContext)
    assert context.get_result("a") == {"x": [1]}
    assert context.all_results() == {"a": {"x": [1]}, "b": 2}
    assert context.workflow_name == "flow"


async def test_the_run_id_is_the_given_one_or_a_new_uuid(engine: Recording):
    assert (await engine.run(value("a"), run_id="mine")).run_id == "mine"
    made = [(await engine.run(value("a"))).run_id for _ in range(2)]
    assert uuid.UUID(made[0])
    assert made[0] != made[1]


async def test_the_engine_without_a_registry_has_the_built_in_nodes():
    engine = WorkflowEngine()
    assert {"http", "transform", "condition", "alert", "storage"} <= set(engine.registry.list_types())


async def test_keys_of_the_initial_context_are_stored_as_results(engine: Recording):
    context = await engine.run(
        value("a", give="{{ trigger.order }}"), initial_context={"trigger": {"order": 7}, "region": "eu"}
    )
    assert context.get_result("trigger") == {"order": 7}
    assert context.get_result("region") == "eu"
    assert context.get_result("a") == "7"


class TestOrder:
    async def test_a_node_starts_after_all_its_dependencies(self, engine: Recording):
        await engine.run(value("d", "b", "c"), value("b", "a"), value("c", "a"), value("a"))
        assert engine.log[0] == "a"
        assert engine.log[-1] == "d"
        assert sorted(engine.log) == ["a", "b", "c", "d"]

    async def test_independent_nodes_run_concurrently(self):
        barrier = asyncio.Barrier(3)

        class Meet(BaseNode):
            node_type = "meet"

            async def execute(self, config: dict[str, Any], context: ExecutionContext) -> object:
                await barrier.wait()
                return "met"

        registry = NodeRegistry()
        registry.register(Meet)
        context = await WorkflowEngine(registry=registry).run(flow(*({"id": id, "type": "meet"} for id in "abc")))
        assert context.all_results() == dict.fromkeys("abc", "met")

    async def test_an_unknown_dependency_is_a_value_error_before_anything_runs(self, engine: Recording):
        with pytest.raises(ValueError, match="does not exist"):
            await engine.run(value("a"), value("b", "ghost"))
        assert engine.log == []

    async def test_a_cycle_is_a_value_error_before_anything_runs(self, engine: Recording):
        with pytest.raises(ValueError, match="Cycle"):
            await engine.run(value("x"), value("a", "b"), value("b", "a"))
        assert engine.log == []

    async def test_a_node_that_depends_on_itself_is_a_cycle(self, engine: Recording):
        with pytest.raises(ValueError, match="Cycle"):
            await engine.run(value("a", "a"))


class TestWhen:
    @pytest.mark.parametrize(
        ("when", "runs"),
        [
            ("a > 3", True),
            ("a > 5", False),
            ("a == 5 and True", True),
            ("ghost > 1", False),
            ("a.missing", False),
            ("a / 0", False),
            ("1 +", False),
            ("__import__('os')", False),
            ("__workflow__ == 'flow'", True),
            ("len(__run_id__) > 0 and len(__now__) > 0", True),
        ],
    )
    async def test_false_or_failing_skips_the_node_without_result_or_error(
        self, engine: Recording, when: str, runs: bool
    ):
        context = await engine.run(value("a", give=5), value("b", "a", when=when))
        assert context.has_result("b") is runs
        assert not context.has_error("b")

    async def test_it_sees_all_results_so_far_not_only_dependencies(self, engine: Recording):
        context = await engine.run(value("a", give=5), value("b", "a"), value("c", "b", when="a == 5"))
        assert context.has_result("c")

    async def test_a_skipped_dependency_lets_its_dependents_run(self, engine: Recording):
        context = await engine.run(value("a", when="False"), value("b", "a"), value("c", "b"))
        assert set(context.all_results()) == {"b", "c"}


class TestOnError:
    async def test_stop_is_the_default_records_the_error_and_does_not_raise(self, engine: Recording):
        context = await engine.run(boom("a"), value("b", "a"))
        assert context.has_error("a")
        assert "boom" in str(context.get_error("a"))
        assert not context.has_result("a")
        assert not context.has_result("b")
        assert not context.has_error("b")

    async def test_stop_starts_nothing_new_anywhere(self, engine: Recording):
        context = await engine.run(boom("bad"), value("a"), value("b", "a"), value("c", "b"))
        assert not context.has_result("c")
        assert "c" not in engine.log

    async def test_stop_lets_what_is_running_finish(self):
        failed = asyncio.Event()

        class Bad(BaseNode):
            node_type = "bad"

            async def execute(self, config: dict[str, Any], context: ExecutionContext) -> object:
                failed.set()
                raise RuntimeError("bad")

        class Slow(BaseNode):
            node_type = "slow"

            async def execute(self, config: dict[str, Any], context: ExecutionContext) -> object:
                await failed.wait()
                for _ in range(5):
                    await asyncio.sleep(0)
                return "finished"

        registry = NodeRegistry()
        registry.register(Bad)
        registry.register(Slow)
        context = await WorkflowEngine(registry=registry).run(
            flow({"id": "slow", "type": "slow"}, {"id": "bad", "type": "bad"})
        )
        assert context.get_result("slow") == "finished"

    async def test_skip_records_the_error_and_dependents_run(self, engine: Recording):
        context = await engine.run(boom("a", on_error="skip"), value("b", "a"))
        assert context.has_error("a")
        assert context.get_result("b") == 1

    async def test_retry_makes_that_many_more_attempts_with_doubling_waits(self, engine: Recording):
        clock = Clock()
        node = {"id": "a", "type": "flaky", "config": {"tag": "a", "fails": 9}, "on_error": "retry"}
        context = await engine.run(
            node | {"retry": {"max_retries": 3, "delay": 2}}, value("b", "a"), engine={"clock": clock}
        )
        assert engine.failures["a"] == 4
        assert clock.slept == [2, 4, 8]
        assert "attempt 4" in str(context.get_error("a"))
        assert context.get_result("b") == 1  # all attempts failed: as `skip`

    async def test_retry_keeps_the_result_of_a_success_and_no_error(self, engine: Recording):
        node = {"id": "a", "type": "flaky", "config": {"tag": "a", "fails": 1}, "on_error": "retry"}
        context = await engine.run(node | {"retry": {"max_retries": 3, "delay": 0}})
        assert context.get_result("a") == "recovered"
        assert not context.has_error("a")

    async def test_retry_without_a_policy_retries_three_times(self, engine: Recording):
        clock = Clock()
        node = {"id": "a", "type": "flaky", "config": {"tag": "a", "fails": 9}, "on_error": "retry"}
        await engine.run(node, engine={"clock": clock})
        assert (engine.failures["a"], clock.slept) == (4, [1, 2, 4])

    async def test_retry_settings_alone_retry_nothing(self, engine: Recording):
        node = {"id": "a", "type": "flaky", "config": {"tag": "a", "fails": 9}}
        await engine.run(node | {"retry": {"max_retries": 3, "delay": 0}})
        assert engine.failures["a"] == 1


class TestErrorsOutsideExecute:
    async def test_a_template_that_does_not_resolve_is_that_nodes_error_and_the_run_goes_on(self, engine: Recording):
        context = await engine.run(value("a", give="{{ ghost }}"), value("b", "a"), value("c"))
        assert "ghost" in str(context.get_error("a"))
        assert not context.has_result("a")
        assert context.get_result("b") == context.get_result("c") == 1
        assert "a" not in engine.log

    async def test_an_unknown_node_type_is_that_nodes_error_and_the_run_goes_on(self, engine: Recording):
        context = await engine.run({"id": "a", "type": "ghost"}, value("b", "a"))
        assert "Unknown node type: ghost" in str(context.get_error("a"))
        assert context.get_result("b") == 1

    async def test_a_broken_template_is_not_found_before_the_run(self, engine: Recording):
        context = await engine.run(value("a"), value("b", "a", give="{{ 1 + }}"))
        assert context.get_result("a") == 1
        assert context.has_error("b")


class TestBuiltInNames:
    async def test_run_id_and_workflow(self, engine: Recording):
        context = await engine.run(value("a", give="{{ __run_id__ }}/{{ __workflow__ }}"), run_id="r1")
        assert context.get_result("a") == "r1/flow"

    async def test_now_is_the_start_of_the_node_in_utc_as_iso_text(self, engine: Recording):
        clock = Clock()
        node = {"id": "wait", "type": "flaky", "config": {"tag": "w", "fails": 1}, "on_error": "retry"}
        context = await engine.run(
            value("before", give="{{ __now__ }}"),
            node | {"retry": {"delay": 10}, "depends_on": ["before"]},
            value("after", "wait", give="{{ __now__ }}"),
            engine={"clock": clock},
        )
        before, after = (datetime.fromisoformat(context.get_result(id)) for id in ("before", "after"))
        assert before.utcoffset() == timedelta(0)
        assert after - before == timedelta(seconds=10)

    async def test_they_are_no_results(self, engine: Recording):
        assert set((await engine.run(value("a"))).all_results()) == {"a"}


async def test_templates_are_resolved_just_before_the_node_runs(engine: Recording):
    context = await engine.run(
        value("a", give=[1, 2]), value("b", "a", give={"whole": "{{ a }}", "text": "n={{ a[1] }}"})
    )
    assert context.get_result("b") == {"whole": [1, 2], "text": "n=2"}


async def test_a_node_can_read_the_results_through_its_context():
    class Reads(BaseNode):
        node_type = "reads"

        async def execute(self, config: dict[str, Any], context: ExecutionContext) -> object:
            return (context.run_id, context.workflow_name, context.get_result("seed"), context.has_result("ghost"))

    registry = NodeRegistry()
    registry.register(Reads)
    context = await WorkflowEngine(registry=registry).run(
        flow({"id": "a", "type": "reads"}), run_id="r1", initial_context={"seed": 3}
    )
    assert context.get_result("a") == ("r1", "flow", 3, False)


async def test_a_definition_is_not_changed_by_running_it(engine: Recording):
    definition = flow(value("a", give=["{{ __run_id__ }}"]))
    before = definition.model_dump()
    await WorkflowEngine(registry=engine.registry).run(definition)
    assert definition.model_dump() == before


async def test_a_definition_can_be_changed_between_runs(engine: Recording):
    definition = flow(value("a", give=1))
    runner = WorkflowEngine(registry=engine.registry)
    assert (await runner.run(definition)).get_result("a") == 1
    definition.nodes[0].config["value"] = 2
    assert (await runner.run(definition)).get_result("a") == 2


async def test_a_type_registered_between_runs_is_known(engine: Recording):
    definition = flow({"id": "a", "type": "late"})
    runner = WorkflowEngine(registry=engine.registry)
    assert (await runner.run(definition)).has_error("a")

    class Late(BaseNode):
        node_type = "late"

        async def execute(self, config: dict[str, Any], context: ExecutionContext) -> object:
            return "here"

    engine.registry.register(Late)
    assert (await runner.run(definition)).get_result("a") == "here"
