"""Plays a case in the library: a run that is lost goes on from the events that were committed."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

from pyflow.core.events import Event, EventType, posix
from pyflow.core.ports import MappingSecrets
from pyflow.core.result import ErrorInfo, ItemRun, NodeRun, RunResult
from pyflow.core.states import NodeState
from pyflow.core.suspension import Signal, Suspension
from pyflow.documents.models import WorkflowDef
from pyflow.execution.engine import Execution, WorkflowEngine
from tests.model.language import KIDS, SECRET, SIGNAL, Became, Case
from tests.model.nodes import Hold, Ledger, Stage
from tests.support.factories import stage

INPUT = {"yes": True, "no": False}


class Kids:
    """The workflows of child runs."""

    def get(self, name: str) -> WorkflowDef:
        """One of them."""
        return WorkflowDef.model_validate(KIDS[name])


class Record:
    """A sink that keeps what an engine needs to go on: starts are durable with the next completion."""

    def __init__(self, ledger: Ledger, run_id: str) -> None:
        self.nodes: dict[str, NodeRun] = {}
        self.begun_at: float | None = None
        self.taken: list[str] = []
        #: Nodes that wait for a signal, as they come.
        self.waiting: asyncio.Queue[str] = asyncio.Queue()
        self._ledger = ledger
        self._run_id = run_id
        self._noted: list[Event] = []

    def emit(self, event: Event) -> None:
        """Note a start."""
        if event.run_id == self._run_id:
            self._noted.append(copy.deepcopy(event))
            asyncio.get_running_loop().call_later(0.005, self.flush)

    async def commit(self, event: Event) -> None:
        """Make it durable, with what was noted before."""
        await self._ledger.tick()
        if event.run_id == self._run_id:
            self.emit(event)
            self.flush()
        await self._ledger.tick()

    def flush(self) -> None:
        """Make durable what is noted."""
        noted, self._noted = self._noted, []
        for event in noted:
            self._keep(event)

    def forget(self) -> None:
        """Lose what is noted and not durable, with the process."""
        self._noted = []

    def _keep(self, event: Event) -> None:
        data, kind = event.data, event.type
        if event.node_id is None:
            if kind is EventType.RUN_STARTED:
                self.begun_at = event.at
            return
        node = self.nodes.setdefault(event.node_id, NodeRun(event.node_id, NodeState.RUNNING))
        if "item" in data:
            node.attempts = node.attempts or 1
            node.items = node.items or {}
            node.items[data["item"]["index"]] = _item(event)
            return
        if kind is EventType.NODE_SKIPPED:
            node.state, node.reason = NodeState(data.get("state", "skipped")), data["reason"]
        else:
            node.attempts = data.get("attempt", node.attempts)
        if "error" in data:
            node.error = ErrorInfo(**data["error"])
        if kind is EventType.NODE_STARTED:
            node.state, node.started_at = NodeState.RUNNING, node.started_at or event.at
        elif kind is EventType.NODE_SUCCEEDED:
            node.state, node.output, node.error = NodeState.SUCCEEDED, data["output"], None
        elif kind is EventType.NODE_FAILED:
            node.state, node.reason = NodeState(data["state"]), data.get("reason")
            node.tolerated = data.get("tolerated", False)
        elif kind is EventType.NODE_RETRYING:
            node.state = NodeState.RETRYING
        elif kind is EventType.NODE_WAITING:
            node.state = NodeState.WAITING
            if data["signal"]:
                self.waiting.put_nowait(data["signal"])
        ended = kind in (EventType.NODE_SUCCEEDED, EventType.NODE_FAILED, EventType.NODE_SKIPPED)
        node.finished_at = event.at if ended else None
        node.wait = Suspension.from_dict(data) if kind is EventType.NODE_WAITING else None
        wake_at = data.get("wake_at") or (data["until"] if kind is EventType.NODE_WAITING else None)
        node.wake_at = None if wake_at is None else posix(wake_at)
        if data.get("signal") and kind is not EventType.NODE_WAITING:
            self.taken.append(event.node_id)


def _item(event: Event) -> ItemRun:
    data = event.data
    item = ItemRun(data["item"]["index"], data["item"]["key"])
    states = {EventType.NODE_SUCCEEDED: NodeState.SUCCEEDED, EventType.NODE_RETRYING: NodeState.RETRYING}
    item.state = states.get(event.type) or NodeState(data["state"])
    item.attempts, item.output = data["attempt"], data.get("output")
    item.finished_at = event.at
    item.started_at = None if data["started_at"] is None else posix(data["started_at"])
    item.wake_at = posix(data["wake_at"]) if data.get("wake_at") else None
    item.error = ErrorInfo(**data["error"]) if data.get("error") else None
    return item


class Play:
    """One case in the library."""

    def __init__(self, case: Case, stage: Stage) -> None:
        self.case = case
        self.ledger = stage.ledger = Ledger(moment for moment, _ in case.interruptions)
        self.record = Record(self.ledger, "case")
        self.engine = WorkflowEngine(
            stage.registry, sink=self.record, workflows=Kids(), secrets=MappingSecrets({"TOKEN": SECRET})
        )
        self.definition = WorkflowDef.model_validate(case.document("case"))
        self.losses = 0
        self.cancelled = False
        self.delivered = [node.id for node in case.sections["nodes"] if node.kind == "signal" and node.early]

    async def to_the_end(self) -> Became:
        """Play, and say what became of it."""
        courier: asyncio.Task[None] | None = None
        self.start()
        courier = asyncio.create_task(self.deliver())
        try:
            for moment, verb in self.case.interruptions:
                hold = self.ledger.holds[moment]
                while not hold.reached.is_set() and not self.task.done():  # noqa: ASYNC110 - nodes and threads set it
                    await asyncio.sleep(0.001)
                if self.task.done() and self.task.result().state != "paused":
                    break
                await getattr(self, verb.replace("-", "_"))(hold)
                hold.go.set()
            result = await self.task
            while result.state == "paused":
                self.go_on()
                result = await self.task
        finally:
            courier.cancel()
            for hold in self.ledger.holds.values():
                hold.go.set()
        return self.became(result)

    def start(self) -> None:
        """Start, or go on from what is on record."""
        signals = [Signal(name, SIGNAL, name) for name in self.delivered if name not in self.record.taken]
        self.execution: Execution = stage.start(
            self.engine,
            self.definition,
            run_id="case",
            input=INPUT,
            recorded=copy.deepcopy(self.record.nodes),
            signals=signals,
            begun_at=self.record.begun_at,
        )
        if self.cancelled:
            self.execution.cancel()
        self.task: asyncio.Task[RunResult] = asyncio.create_task(self.execution.wait())

    def go_on(self) -> None:
        """Resume it if it is paused by now: what it noted is durable when it is parked."""
        if self.task.done():
            self.record.flush()
            self.start()

    async def deliver(self) -> None:
        """Deliver each signal once a node waits for it."""
        while True:
            name = await self.record.waiting.get()
            if name not in self.delivered:
                self.delivered.append(name)
                self.execution.signal(name, SIGNAL, name)

    async def pause(self, _: Hold) -> None:
        """Pause; it is resumed once it has ended what runs."""
        self.go_on()
        self.execution.pause()

    async def pause_now(self, hold: Hold) -> None:
        """Pause, and resume at once."""
        await self.pause(hold)
        await asyncio.sleep(0.002)
        self.execution.resume()

    async def restart(self, _: Hold) -> None:
        """Lose the process, and go on from the record in another one."""
        self.task.cancel()
        self.ledger.is_counting = False
        for (
            other
        ) in self.ledger.holds.values():  # its child runs end before it does, and nobody is there to let them go
            if other.reached.is_set():
                other.go.set()
        await asyncio.gather(self.task, return_exceptions=True)
        self.ledger.is_counting = True
        self.record.forget()
        self.losses += 1
        self.start()

    async def cancel(self, _: Hold) -> None:
        """Ask it to stop."""
        self.go_on()
        self.cancelled = True
        self.execution.cancel()

    def became(self, result: RunResult) -> Became:
        """What became of it."""
        self.record.flush()
        return Became(
            str(result.state),
            result.outputs,
            None if result.error is None else result.error.node_id,
            result.compensation,
            {id: (str(run.state), run.attempts, run.output) for id, run in result.nodes.items()},
            {
                (id, item.index): (str(item.state), item.attempts)
                for id, run in result.nodes.items()
                for item in (run.items or {}).values()
            },
            {id: run.finished_at or 0.0 for id, run in self.record.nodes.items()},
            losses=self.losses,
            cancelled=self.cancelled,
            calls=self.ledger.calls,
        )


def play(case: Case, stage: Stage) -> Became:
    """Play a case in the library."""

    async def run() -> Became:
        played = Play(case, stage)
        async with asyncio.timeout(20):
            return await played.to_the_end()

    return asyncio.run(run())


def values(became: Became) -> Any:
    """What of it must be the same wherever it is played."""
    return became.state, became.outputs, became.nodes
