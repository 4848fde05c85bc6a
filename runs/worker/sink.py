"""Between the engine and the database: a sink that records a run, and the reader that brings it back."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from pyflow.core import result
from pyflow.core.events import Event, EventType, rfc3339
from pyflow.core.messages import cut
from pyflow.core.ports import SystemClock
from pyflow.core.states import NodeState, RunState
from pyflow.core.suspension import WaitKind
from pyflow.execution.run_log import MAX_CHARACTERS, MAX_LINES, LogLine
from runs.errors import LeaseLapsedError
from runs.models import NodeRun
from runs.notify.current import current_bus
from runs.notify.notifications import progress_topic
from runs.queue.leases import Claim
from runs.storage.text import storable_text
from runs.storage.writer import GroupWriter, Write, moment
from runs.worker.run_values import RunValues
from runs.worker.secrets import RunSecrets

logger = logging.getLogger("pyflow.runs")

#: Starts are not waited for, yet whoever follows a run sees them within this time. Seconds.
FLUSH_SECONDS = 0.05
#: What nodes report of their progress is written this often at most. Seconds.
PROGRESS_SECONDS = 1.0
#: Characters of a message about progress.
MAX_PROGRESS = 500
#: The last line of a log that was cut.
LOG_CUT = f"The log ends here: a run keeps {MAX_LINES:,} lines and {MAX_CHARACTERS:,} characters of it."
_ITEM_STATES = {
    EventType.NODE_SUCCEEDED: NodeState.SUCCEEDED,
    EventType.NODE_RETRYING: NodeState.RETRYING,
    EventType.NODE_WAITING: NodeState.WAITING,
}
_RUN_ENDS = frozenset({EventType.RUN_SUCCEEDED, EventType.RUN_FAILED, EventType.RUN_CANCELLED})


class DatabaseSink:
    """The ``EventSink`` of one claimed run: its events and node rows, durable when ``commit`` returns."""

    def __init__(
        self,
        writer: GroupWriter,
        claim: Claim,
        trusted: Callable[[], bool],
        secrets: RunSecrets,
        values: RunValues,
    ) -> None:
        self._values = values
        self._input: Any = claim.input
        self._writer = writer
        self._claim = claim
        self._trusted = trusted
        self._secrets = secrets
        self._rows: dict[str, dict[str, Any]] = {}
        self._pending = self._new_write()
        self._flush: asyncio.TimerHandle | None = None
        #: The nodes whose progress is not written yet, and when that was done last (monotonic seconds).
        self._progressed: set[str] = set()
        self._progress: asyncio.TimerHandle | None = None
        self._progress_at = -PROGRESS_SECONDS
        self._closed = False
        #: Whether the end of the run was noted here, be it on record yet or not.
        self.has_ended = False
        #: Whether the execution knows that it was asked to stop.
        self.knows_stop = False
        #: Whether child runs may be left when it ends.
        self.may_have_children = True
        self._lines, self._characters = claim.log_lines, claim.log_characters

    def restore(self, recorded: Mapping[str, result.NodeRun], input: Any) -> None:
        """Go on from what is on record: a node that waited keeps its beginning and its attempts."""
        self._input = input
        for node_id, run in recorded.items():
            started = None if run.started_at is None else moment(run.started_at)
            known = {"attempts": run.attempts, "round": run.round, "earlier_attempts": run.earlier_attempts}
            self._rows[node_id] = NodeRun.UNTOUCHED | known | {"started_at": started}

    def emit(self, event: Event) -> None:
        """Note a start; it rides along with the next completion, or goes by itself a moment later.

        Raises ``LeaseLapsedError`` where a node would start although the lease may have ended.
        """
        if event.type is EventType.NODE_PROGRESS:
            assert event.node_id is not None  # noqa: S101 - nodes report it
            self.report(event.node_id, progress_of(event))
            return
        if event.type is EventType.NODE_STARTED and not self._trusted():
            raise LeaseLapsedError(f"the lease of run {self._claim.run_id} is not trusted any more")
        event = _storable(event)
        self._values.outsource_now(event)
        self._note(event)
        self._flush_soon()

    def report(self, node_id: str, progress: dict[str, Any]) -> None:
        """Keep what a node that is executed reports of its progress; of many reports the last one is written."""
        row = self._rows.get(node_id)
        if self._closed or row is None or row["state"] != NodeState.RUNNING:
            return
        row["progress"] = progress
        self._progressed.add(node_id)
        if self._progress is None:
            loop = asyncio.get_running_loop()
            due = max(0.0, self._progress_at + PROGRESS_SECONDS - loop.time())
            self._progress = loop.call_later(due, self._note_progress)

    def _note_progress(self) -> None:
        self._progress, self._progress_at = None, asyncio.get_running_loop().time()
        for node_id in self._progressed:
            if self._rows[node_id]["state"] == NodeState.RUNNING:
                self._pending.nodes[node_id] = self._rows[node_id].copy()
                self._publish_progress(node_id, self._rows[node_id]["progress"])
        self._progressed.clear()
        if not self._closed:
            self._flush_soon()

    def _publish_progress(self, node_id: str, progress: dict[str, Any]) -> None:
        """Publish an event to those who follow the run right now; it is not in the log."""
        claim = self._claim
        event = {
            "id": None,
            "seq": 0,
            "type": EventType.NODE_PROGRESS.value,
            "at": progress["at"],
            "tenant": str(claim.tenant_id),
            "workflow": claim.workflow_name,
            "version": claim.version_number,
            "run_id": str(claim.run_id),
            "node_id": node_id,
            "data": {name: progress[name] for name in ("fraction", "message", "item")},
        }
        current_bus().publish(progress_topic(claim.run_id), json.dumps(event))

    def log(self, line: LogLine) -> None:
        """Keep a line of the run's log, as long as there is room; it is written as starts are."""
        if self._closed or self._characters > MAX_CHARACTERS:
            return
        size = len(line.message)
        if self._lines == MAX_LINES or self._characters + size > MAX_CHARACTERS:
            line = LogLine(line.at, "", 0, None, logging.WARNING, LOG_CUT)
            size = MAX_CHARACTERS + 1  # what it counts for says, to whoever goes on with the run, that it was cut
        self._lines += 1
        self._characters += size
        row = {field: getattr(line, field) for field in ("node_id", "attempt", "item", "level")}
        row |= {"seq": self._lines, "at": moment(line.at), "message": storable_text(line.message)}
        self._pending.log.append(row)
        self._pending.changes |= {"log_lines": self._lines, "log_characters": self._characters}
        self._flush_soon()

    async def commit(self, event: Event) -> None:
        """Return once the event, and everything noted before it, is committed."""
        event = _storable(event)
        await self._values.outsource(event)
        masked = await self._masked_input() if event.type in _RUN_ENDS else {}
        self._note(event)
        self._pending.changes |= masked
        await self._writer.commit(self._take())
        if masked and self._claim.input_ref is not None:
            await self._values.forget(self._claim.input_ref)

    async def _masked_input(self) -> dict[str, Any]:
        """Return the columns of the input with its secrets masked, for the end of the run: nodes needed them before."""
        masked = self._secrets.redact(self._input)
        if masked == self._input:
            return {}
        inline, reference = await self._values.put(masked)
        return {
            "input": {} if reference is not None else inline,
            "input_ref": None if reference is None else reference.as_dict(),
        }

    def close(self) -> None:
        """Write what is noted and not written, without waiting for it, and take no more lines.

        A thread that outlives its attempt may log when the run is executed under a new epoch.
        """
        self._closed = True
        if self._progress is not None:
            self._progress.cancel()
        if self._flush is not None:
            self._flush.cancel()
            self._flush_now()

    async def park(self, wake_at: float | None) -> None:
        """Put the run down until ``wake_at`` (POSIX seconds), a signal, the end of a child or a request.

        Nobody executes it meanwhile.
        """
        await self._release(RunState.WAITING, wake_at)

    async def pause(self) -> None:
        """Put the run down until somebody resumes it, or asks it to stop."""
        claim, data = self._claim, {"state": RunState.PAUSED.value}
        at = SystemClock().time()
        self._note(Event(EventType.RUN_PAUSED, str(claim.run_id), claim.workflow_name, 0, at, None, data))
        await self._release(RunState.PAUSED, None)

    async def _release(self, state: RunState, wake_at: float | None) -> None:
        self._closed = True
        self._pending.knows_stop = self.knows_stop
        self._pending.changes |= {
            "state": state.value,
            "wake_at": None if wake_at is None else moment(wake_at),
            "owner": "",
            "lease_until": None,
        }
        await self._writer.commit(self._take())

    def _flush_soon(self) -> None:
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush_now)

    def _flush_now(self) -> None:
        self._flush = None
        if self._pending.events or self._pending.log or self._pending.nodes:
            self._writer.submit(self._take())

    def _take(self) -> Write:
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        # In one transaction with what a node made of a secret: that is masked by whoever goes on from there.
        self._pending.changes |= self._secrets.changes
        write, self._pending = self._pending, self._new_write()
        return write

    def _new_write(self) -> Write:
        claim = self._claim
        return Write(claim.run_id, claim.tenant_id, claim.epoch, claim.parent_id)

    def _note(self, event: Event) -> None:
        self._pending.events.append(event)
        item = event.data.get("item")
        if reference := event.data.get("output_ref") or event.data.get("outputs_ref"):
            self._pending.value_bytes += reference["size"]
        if self._claim.losses and event.type is EventType.NODE_SUCCEEDED:
            self._pending.changes["losses"] = 0  # it gets on: what it was lost with before was not its doing
        if "signal" in event.data and event.type is not EventType.NODE_WAITING:  # there it is the name
            self._pending.signals.append(event.data["signal"])
        if event.type is EventType.NODE_SIGNAL_REFUSED:
            return
        if event.node_id is not None and item is not None:
            self._pending.items[event.node_id, item["index"]] = _item_row(event, item)
        elif event.node_id is not None:
            self._pending.nodes[event.node_id] = self._row(event.node_id, event).copy()
        elif event.type in (EventType.RUN_STARTED, EventType.RUN_RESUMED):
            if self._claim.begun_at is None:  # also where there are results already, of an earlier try
                self._pending.changes["started_at"] = moment(event.at)
        elif event.type in _RUN_ENDS:
            self.has_ended = self._closed = True  # what is noted is written together with the end
            self._pending.changes |= {
                "state": str(event.data["state"]),
                "outputs": event.data.get("outputs"),
                "outputs_ref": event.data.get("outputs_ref"),
                "error": event.data.get("error"),
                "compensation": event.data.get("compensation") or "",
                "finished_at": moment(event.at),
                "wake_at": None,
                "owner": "",
                "lease_until": None,
                "children_to_stop": self.may_have_children and event.type is not EventType.RUN_SUCCEEDED,
            }

    def _row(self, node_id: str, event: Event) -> dict[str, Any]:
        row = self._rows.setdefault(node_id, NodeRun.UNTOUCHED.copy())
        data, at = event.data, moment(event.at)
        match event.type:
            case EventType.NODE_STARTED:
                row |= {"state": NodeState.RUNNING.value, "wake_at": None} | _counts(data)
                row |= {"started_at": row["started_at"] or at, "wait": None, "progress": None}
            case EventType.NODE_SUCCEEDED:
                row |= {"state": NodeState.SUCCEEDED.value, "error": None, "finished_at": at, "wait": None}
                row |= {"output": data.get("output"), "output_ref": data.get("output_ref"), "wake_at": None}
                row["progress"] = None  # its output says more; of a failed one it shows how far it came
            case EventType.NODE_FAILED:
                row |= {"state": str(data["state"]), "error": data["error"], "finished_at": at}
                row |= {"wait": None, "wake_at": None, "tolerated": data.get("tolerated", False)}
                row["reason"] = data.get("reason", "")
            case EventType.NODE_RETRYING:
                row |= {"state": NodeState.RETRYING.value, "error": data["error"], "wake_at": data["wake_at"]}
                row["wait"] = None
            case EventType.NODE_WAITING:
                row["state"] = NodeState.WAITING.value
                row["wait"] = {key: data[key] for key in ("until", "signal", "details")}
                row["wake_at"] = data["until"]
                if row["wait"]["details"].get("kind") == WaitKind.ROUND:
                    row["error"] = None  # of an attempt before the one that succeeded
            case EventType.NODE_SKIPPED:
                row |= {"state": str(data.get("state", NodeState.SKIPPED)), "reason": data["reason"], "finished_at": at}
                row |= {"wait": None, "wake_at": None}
        return row


def _storable(event: Event) -> Event:
    """The event as the database can hold it: a write that is refused every time would keep its run from ever ending."""
    if (error := event.data.get("error")) is not None:
        event.data["error"] = {
            key: storable_text(text) if isinstance(text, str) else text for key, text in error.items()
        }
        if "traceback" in error:
            logger.error("node %s of run %s failed:\n%s", event.node_id, event.run_id, event.data["error"]["traceback"])
    return event


def progress_of(event: Event) -> dict[str, Any]:
    """A report of progress as it is kept; ``item`` is the one of a fan-out that reported."""
    data = event.data
    message = cut(storable_text(data["message"]), MAX_PROGRESS)
    return {
        "fraction": float(data["fraction"]),
        "message": message,
        "at": rfc3339(event.at),
        "item": data.get("item"),
    }


def _counts(data: dict[str, Any]) -> dict[str, int]:
    """Return the columns about the attempt, and the round, that an event is of."""
    attempt = data["attempt"]
    return {
        "attempts": attempt,
        "round": data.get("round", 1),
        "earlier_attempts": attempt - data.get("round_attempt", attempt),
    }


def _item_row(event: Event, item: dict[str, Any]) -> dict[str, Any]:
    data = event.data
    waits = event.type is EventType.NODE_WAITING
    return _counts(data) | {
        "key": item["key"],
        "state": str(_ITEM_STATES.get(event.type) or data["state"]),
        "output": data.get("output"),
        "output_ref": data.get("output_ref"),
        "error": data.get("error"),
        "started_at": data.get("started_at"),
        "wake_at": data["until"] if waits else data.get("wake_at"),
        "wait": {key: data[key] for key in ("until", "signal", "details")} if waits else None,
        "at": moment(event.at),
    }
