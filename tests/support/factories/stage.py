"""What engine tests act with: small node types, workflows from a few words, and a clock that is moved by hand."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from pyflow.core.context import ExecutionContext
from pyflow.core.events import Event, EventType
from pyflow.core.node import BaseNode, NodeRegistry
from pyflow.core.ports import MemorySink
from pyflow.core.result import RunResult
from pyflow.documents.models import WorkflowDef
from pyflow.execution.engine import Execution, RunRequest, RunServices, WorkflowEngine
from pyflow.execution.plan import Plan
from pyflow_sdk.node import BaseNodeV2, NodeContext


class Echo(BaseNode[Any, Any]):
    """Gives back ``value``."""

    node_type = "echo"

    async def execute(self, config: dict[str, Any], context: ExecutionContext) -> object:
        return config.get("value")


class Fail(BaseNode[Any, Any]):
    """Raises a ``RuntimeError`` with ``message``."""

    node_type = "fail"

    async def execute(self, config: dict[str, Any], context: ExecutionContext) -> object:
        raise RuntimeError(config.get("message", "it failed"))


class Waits(BaseNode[Any, Any]):
    """Never ends by itself."""

    node_type = "waits"

    async def execute(self, config: dict[str, Any], context: ExecutionContext) -> object:
        await asyncio.Event().wait()
        return None


class Told(BaseNodeV2["Told.Config"]):
    """A version 2 type with a model."""

    node_type = "told"

    class Config(BaseModel, extra="forbid"):
        """Both are shown in the output."""

        count: int
        text: str = "x"

    async def run(self, config: Config, ctx: NodeContext) -> object:
        return {"text": config.text * config.count, "attempt": ctx.attempt, "key": ctx.idempotency_key}


def registry(**functions: Callable[..., Any]) -> NodeRegistry:
    """Return a registry with the types above, and one for each function ``(config, context)``, async or not."""
    made = NodeRegistry()
    for cls in (Echo, Fail, Waits, Told):
        made.register(cls)
    for name, function in functions.items():
        made.register(_type_of(name, function))
    return made


def _type_of(name: str, function: Callable[..., Any]) -> type[BaseNode[Any, Any]]:
    async def execute(self: Any, config: dict[str, Any], context: ExecutionContext) -> object:
        result = function(config, context)
        return await result if asyncio.iscoroutine(result) else result

    return type(name, (BaseNode,), {"node_type": name, "execute": execute})


def node(id: str, type: str = "echo", *depends_on: str, **fields: Any) -> dict[str, Any]:
    """Return a node's definition."""
    return {"id": id, "type": type, "depends_on": list(depends_on)} | fields


def workflow(*nodes: dict[str, Any], **fields: Any) -> WorkflowDef:
    """Return a version 2 workflow of ``nodes`` (or of one mapping with ``nodes`` in it)."""
    if len(nodes) == 1 and "nodes" in nodes[0]:
        fields, nodes = nodes[0] | fields, ()
    return WorkflowDef.model_validate({"version": 2, "name": "test", "nodes": list(nodes)} | fields)


def v1(*nodes: dict[str, Any], **fields: Any) -> WorkflowDef:
    """Return a v1 workflow of ``nodes``."""
    return WorkflowDef.model_validate({"name": "test", "trigger": {"type": "manual"}, "nodes": list(nodes)} | fields)


class Held:
    """A node type whose calls stay inside until ``leave`` is set.

    ``inside`` has who is there, ``most`` how many at once.
    """

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.most = 0
        self.leave = asyncio.Event()
        self._changed = asyncio.Condition()

    async def __call__(self, config: dict[str, Any], _: Any) -> str:
        """Stay, and return the ``value``."""
        name: str = config["value"]
        self.inside.append(name)
        self.most = max(self.most, len(self.inside))
        async with self._changed:
            self._changed.notify_all()
        try:
            await self.leave.wait()
        finally:
            self.inside.remove(name)
        return name

    async def until(self, *names: str) -> None:
        """Return once exactly these are inside."""
        async with self._changed:
            await self._changed.wait_for(lambda: sorted(self.inside) == sorted(names))


class Clock:
    """Time that passes when somebody sleeps, at once; ``slept`` has how long."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now
        self.slept: list[float] = []

    def time(self) -> float:
        """Return the time."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Let the time pass."""
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


class StandingClock(Clock):
    """Time that stands still: who sleeps, sleeps until ``wake``."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        super().__init__(now)
        self.asleep = asyncio.Event()
        self._awake = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """Wait for ``wake``."""
        self.slept.append(seconds)
        self.asleep.set()
        await self._awake.wait()

    def wake(self, later: float) -> None:
        """Let everybody wake up ``later`` seconds from now."""
        self.now += later
        self._awake.set()


class Counting(MemorySink):
    """A sink that notes when so many nodes and items wait."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.left = count
        self.waiting = asyncio.Event()

    async def commit(self, event: Event) -> None:
        """Keep the event, and count it."""
        await super().commit(event)
        self.left -= event.type is EventType.NODE_WAITING
        if not self.left:
            self.waiting.set()


def start(engine: WorkflowEngine, workflow: WorkflowDef | Plan, **fields: Any) -> Execution:
    """Start a run; ``sink``, ``slots`` and other services among the fields are its own instead of the engine's."""
    services = {name: fields.pop(name) for name in list(fields) if name in RunServices.__slots__}
    return engine.start(RunRequest(workflow, **fields), replace(engine.services, **services))


async def execute(engine: WorkflowEngine, workflow: WorkflowDef | Plan, **fields: Any) -> RunResult:
    """Start a run as ``start`` does, and return its result."""
    return await start(engine, workflow, **fields).wait()


async def run(
    definition: WorkflowDef, functions: Mapping[str, Callable[..., Any]] | None = None, **arguments: Any
) -> RunResult:
    """Run to the end with ``functions`` as node types; ``clock``, ``secrets`` and ``middleware`` go to the engine."""
    settings = {key: arguments.pop(key) for key in ("clock", "secrets", "middleware") if key in arguments}
    engine = WorkflowEngine(registry(**(functions or {})), **settings)
    return await execute(engine, definition, **arguments)


def states(result: RunResult) -> dict[str, str]:
    """Return the states of the nodes of a run."""
    return {id: str(run.state) for id, run in result.nodes.items()}


class Sink(MemorySink):
    """Keeps events; ``of`` picks from them."""

    def of(self, type: EventType) -> list[Event]:
        """Return the events of one type."""
        return [event for event in self.events if event.type is type]

    def trail(self) -> list[str]:
        """Return what happened as ``type node`` lines."""
        return [f"{event.type} {event.node_id or ''}".strip() for event in self.events]
