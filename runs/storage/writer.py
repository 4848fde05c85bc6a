"""Writes what happened, many runs in one transaction.

A commit costs about a millisecond however much is in it. So one thread takes everything that is waiting, commits it
together, and only then completes the waits of the runs: their facts are durable.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import InterfaceError, OperationalError, connection, connections, transaction

from plumbing.database.transactions import is_passing, retried
from pyflow.core.events import Event
from pyflow.core.ids import new_uuid
from pyflow.core.states import TERMINAL_RUN_STATES, NodeState, RunState
from pyflow.core.suspension import Suspension, awaited
from runs.errors import FencedError
from runs.models import EventRecord, NodeItem, NodeRun, Run, RunSignal
from runs.notify.current import notifications
from runs.storage import batch_sql
from tenants import quotas
from tenants.plans import Quota

logger = logging.getLogger(__name__)
MAX_BATCH = 500
#: After so long, what is written of runs that other transactions had locked is tried again. Seconds.
BUSY_SECONDS = 0.02


@dataclass(slots=True)
class Write:
    """Facts about one run that become durable together. ``waiter`` completes when they are.

    ``value_bytes``: how large the values are that they refer to. ``busy``: ``store`` left it out, because another
    transaction has locked the run (or its parent, which is notified of its end). ``in_doubt``: the connection was lost
    while it was stored, perhaps after the commit. ``knows_stop``: a run that is parked was asked to stop before, and
    waits in what finishes it.
    """

    run_id: UUID
    tenant_id: UUID
    epoch: int
    parent_id: UUID | None = None
    events: list[Event] = field(default_factory=list)
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    items: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    signals: list[str] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)
    changes: dict[str, Any] = field(default_factory=dict)
    value_bytes: int = 0
    busy: bool = False
    in_doubt: bool = False
    knows_stop: bool = False
    waiter: asyncio.Future[None] | None = None
    #: Ids of the rows of its events: the same however often it is stored.
    _event_ids: list[UUID] = field(default_factory=list)

    @property
    def event_ids(self) -> list[UUID]:
        """Return the ids of the rows of its events, in their order."""
        missing = len(self.events) - len(self._event_ids)
        self._event_ids += [new_uuid() for _ in range(missing)]
        return self._event_ids


class GroupWriter:
    """The writing thread of one executor. ``start`` it on the event loop whose runs it serves."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="pyflow-writer", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Future[None] | None = None

    def start(self) -> None:
        """Begin; call on the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Write what is waiting, then end the thread."""
        assert self._loop is not None  # noqa: S101 - started before it is stopped
        self._ended = self._loop.create_future()
        if not self._thread.is_alive():
            return
        self._queue.put(None)
        # Not joined in a thread of asyncio's: it gives none while the interpreter shuts down.
        await self._ended

    def check(self) -> None:
        """Raise ``RuntimeError`` if the thread has ended: nothing that is submitted would ever be written."""
        if not self._thread.is_alive():
            raise RuntimeError("the thread that writes what happened to runs has ended")

    def submit(self, write: Write) -> None:
        """Write soon; nobody waits."""
        self._queue.put(write)

    async def commit(self, write: Write) -> None:
        """Return once it is committed. Raises ``FencedError`` if the run is no longer ours, or the database's error."""
        assert self._loop is not None  # noqa: S101 - started before runs are
        write.waiter = self._loop.create_future()
        self._queue.put(write)
        await write.waiter

    def _work(self) -> None:
        stopping = False
        busy: list[Write] = []
        while busy or not stopping:
            batch = self._next(BUSY_SECONDS if busy else None)
            stopping = stopping or None in batch
            # What is left of earlier batches comes first: facts about a run are stored in their order.
            writes = busy + [write for write in batch if write is not None]
            if writes:
                outcomes = self._store(writes)
                settled = {id(write) for write, _ in outcomes}
                busy = [write for write in writes if id(write) not in settled]
                self._settle(outcomes)
        connections.close_all()
        if self._loop is not None and self._ended is not None:
            self._loop.call_soon_threadsafe(self._ended.set_result, None)

    def _next(self, timeout: float | None) -> list[Write | None]:
        """Return the waiting writes, at least one unless ``timeout`` is over first."""
        batch: list[Write | None] = []
        with suppress(queue.Empty):
            batch.append(self._queue.get(timeout=timeout))
            while len(batch) < MAX_BATCH:
                batch.append(self._queue.get_nowait())
        return batch

    def _store(self, writes: Sequence[Write]) -> list[tuple[Write, Exception | None]]:
        """Store all in one transaction; if that fails, each alone, so that one bad write harms no other.

        Those that are missing in the answer are to be stored later.
        """
        outcomes, writes = _without_doubts(writes)
        if not writes:
            return outcomes
        try:
            fenced = retried(store)(writes)
        except Exception as error:  # noqa: BLE001 - the database raises what it likes; each waiter gets it
            connections.close_all()  # it may be the connection that is broken; the next write makes a new one
            if len(writes) == 1:
                logger.warning("a write failed: %s", error)
                return [*outcomes, (writes[0], error)]
            if _is_in_doubt(error):
                for write in writes:
                    write.in_doubt = True
                return outcomes + self._store(writes)
            busy = set[UUID]()
            for write in writes:
                found = [] if write.run_id in busy else self._store([write])
                if not found:
                    busy.add(write.run_id)
                outcomes += found
            return outcomes
        done = [write for write in writes if not write.busy]
        settled = [(write, FencedError(str(write.run_id)) if write.run_id in fenced else None) for write in done]
        return outcomes + settled

    def _settle(self, outcomes: list[tuple[Write, Exception | None]]) -> None:
        def complete() -> None:
            for write, error in outcomes:
                waiter = write.waiter
                if waiter is None or waiter.done():
                    continue
                if error is None:
                    waiter.set_result(None)
                else:
                    waiter.set_exception(error)

        assert self._loop is not None  # noqa: S101 - started before runs are
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(complete)


def _is_in_doubt(error: Exception) -> bool:
    """Return whether a transaction may be committed although it failed: the connection was lost, perhaps at the end."""
    return isinstance(error, InterfaceError | OperationalError) and not is_passing(error)


def _without_doubts(writes: Sequence[Write]) -> tuple[list[tuple[Write, Exception | None]], Sequence[Write]]:
    """Return what came of writes whose transaction may be committed, and the writes that are to be stored now.

    Nothing is stored twice: what is still in doubt is missing in both, with what follows it, and if the database cannot
    be asked, the writes fail. Whoever goes on with their runs reads what there is.
    """
    doubtful = [write for write in writes if write.in_doubt]
    if not doubtful:
        return [], writes
    try:
        committed, busy = retried(_look_for)(doubtful)
    except Exception as error:  # noqa: BLE001 - as in `_store`
        connections.close_all()
        logger.warning("%d writes may be stored or not: %s", len(doubtful), error)
        failed = {write.run_id for write in doubtful}
        return (
            [(write, error) for write in writes if write.run_id in failed],
            [write for write in writes if write.run_id not in failed],
        )
    outcomes: list[tuple[Write, Exception | None]] = []
    left = []
    for write in writes:
        if write.run_id in busy:
            continue
        if write.in_doubt and write.run_id in committed:
            outcomes.append((write, None))
            continue
        write.in_doubt = False
        left.append(write)
    return outcomes, left


@transaction.atomic
def _look_for(writes: Sequence[Write]) -> tuple[set[UUID], set[UUID]]:
    """Return the runs of which a transaction in doubt has stored the writes, and those of which nobody can know yet.

    While that transaction is still at work, it has the runs locked.
    """
    busy = _lock({write.run_id for write in writes})
    ids = [event_id for write in writes for event_id in write.event_ids]
    found = EventRecord.objects.across_tenants().filter(pk__in=ids).exclude(run__in=busy)
    return set(found.values_list("run_id", flat=True)), busy


@transaction.atomic
def store(writes: Sequence[Write]) -> set[UUID]:
    """Store the writes; return the runs that were not stored because their epoch is over.

    It waits for no other transaction, since that would hold up all runs of the executor: what is written of a run that
    another one has locked is left out, and marked as ``busy``.
    """
    by_run: dict[UUID, list[Write]] = defaultdict(list)
    for write in writes:
        by_run[write.run_id].append(write)
        write.busy = False
    ended = _ended_children(by_run)
    if ended and (locked := _lock(by_run.keys() | ended.keys())):
        for run_id in locked.union(*(ended[parent_id] for parent_id in locked & ended.keys())):
            _leave_out(by_run, run_id)
        ended = _ended_children(by_run)
    batch = _Batch()
    for run_id, group in by_run.items():
        if all(write.epoch == group[0].epoch for write in group):
            batch.add(run_id, group)
    stored = batch.store()
    for run_id in batch.parked.keys() & stored:
        _requeue_if_due(run_id, batch.parked[run_id])
    notifications().notify_events(batch.changed(stored))
    fenced = by_run.keys() - stored
    for run_id in _held({run_id: by_run[run_id][0].epoch for run_id in fenced}) if fenced else ():
        _leave_out(by_run, run_id)
    fenced &= by_run.keys()
    if ended:
        _notify_parents(ended, fenced)
    if over := [run_id for run_id in by_run.keys() - fenced if _ends(by_run[run_id])]:
        notifications().notify_ended(over)
    return fenced


def _ends(group: Iterable[Write]) -> bool:
    return any(write.changes.get("state") in TERMINAL_RUN_STATES for write in group)


class _Batch:
    """The rows of one transaction, collected run by run."""

    def __init__(self) -> None:
        #: Runs that are being parked, and whether they know that they were asked to stop.
        self.parked: dict[UUID, bool] = {}
        self._rows = batch_sql.Rows()
        self._signals: list[tuple[UUID, list[str]]] = []
        #: Masked ones, of runs that have ended, and where they are if they are large.
        self._inputs: dict[UUID, dict[str, Any]] = {}
        #: Bytes of large values, with whose they are, by run.
        self._value_bytes: dict[UUID, tuple[UUID, int]] = {}

    def add(self, run_id: UUID, group: Sequence[Write]) -> None:
        """Add what is written of one run."""
        seq = 0
        changes: dict[str, Any] = {}
        nodes: dict[str, batch_sql.Row] = {}
        items: dict[tuple[str, int], batch_sql.Row] = {}
        for write in group:
            changes |= write.changes
            nodes |= write.nodes
            items |= write.items
            for event, event_id in zip(write.events, write.event_ids, strict=True):
                seq += 1
                self._rows.events.append(_event_row(write, event, event_id, seq))
            if write.signals:
                self._signals.append((run_id, write.signals))
            owned = {"tenant_id": write.tenant_id, "run_id": run_id}
            self._rows.log += [{"id": new_uuid()} | owned | line for line in write.log]
        tenant_id = group[0].tenant_id
        value_bytes = sum(write.value_bytes for write in group)
        if value_bytes:
            self._value_bytes[run_id] = tenant_id, value_bytes
        if "input" in changes:
            self._inputs[run_id] = {name: changes.pop(name) for name in ("input", "input_ref")}
        gained = {"epoch": group[0].epoch, "events": seq, "value_bytes": value_bytes}
        self._rows.runs.append({"id": run_id, **gained, "changes": changes or None})
        for node_id, values in nodes.items():
            self._rows.nodes.append(
                {"id": new_uuid(), "tenant_id": tenant_id, "run_id": run_id, "node_id": node_id} | values
            )
        for (node_id, index), values in items.items():
            place = {"run_id": run_id, "node_id": node_id, "index": index}
            self._rows.items.append({"id": new_uuid(), "tenant_id": tenant_id} | place | values)
        if changes.get("state") in (RunState.WAITING, RunState.PAUSED):
            self.parked[run_id] = any(write.knows_stop for write in group)

    def changed(self, stored: Collection[UUID]) -> dict[UUID, set[UUID]]:
        """Return those of the runs that were stored and have new events, by their tenants."""
        changed: dict[UUID, set[UUID]] = defaultdict(set)
        for event in self._rows.events:
            if event["run_id"] in stored:
                changed[event["tenant_id"]].add(event["run_id"])
        return changed

    def store(self) -> set[UUID]:
        """Write it; the runs whose epoch holds, of which it was written."""
        stored = batch_sql.store(self._rows)
        amounts = Counter[UUID]()
        for run_id in self._inputs.keys() & stored:  # hardly ever any
            run = Run.objects.across_tenants().only("tenant_id", "input", "input_ref", "value_bytes").get(pk=run_id)
            amounts[run.tenant_id] -= run.stored_bytes
            run.input, run.input_ref = self._inputs[run_id]["input"], self._inputs[run_id]["input_ref"]
            run.save(update_fields=["input", "input_ref"])
            amounts[run.tenant_id] += run.stored_bytes
        for run_id, taken in self._signals:
            if run_id in stored:
                rows = RunSignal.objects.across_tenants().filter(run=run_id, dedupe_id__in=taken)
                rows.update(consumed=True)
        for run_id in self._value_bytes.keys() & stored:
            tenant_id, amount = self._value_bytes[run_id]
            amounts[tenant_id] += amount
        for tenant_id, amount in sorted(amounts.items()):
            quotas.count_apart(tenant_id=tenant_id, quota=Quota.STORED_BYTES, amount=amount)
        return stored


def _ended_children(by_run: Mapping[UUID, Sequence[Write]]) -> dict[UUID, set[UUID]]:
    """The runs that end in a batch, by their parents."""
    ended: dict[UUID, set[UUID]] = defaultdict(set)
    for run_id, group in by_run.items():
        parent_id = group[0].parent_id
        if parent_id is not None and _ends(group):
            ended[parent_id].add(run_id)
    return ended


def _lock(run_ids: Iterable[UUID]) -> set[UUID]:
    """Lock rows; returns those that another transaction has locked.

    A parent that is being parked elsewhere sees its child's end, or we see it waiting. (Without the lock, each of the
    two transactions could miss what the other has not committed yet.)
    """
    rows = Run.objects.across_tenants().filter(pk__in=list(run_ids)).order_by("pk")
    skip = connection.features.has_select_for_update_skip_locked
    locked = set(rows.select_for_update(no_key=True, skip_locked=skip).values_list("pk", flat=True))
    left = set(run_ids) - locked
    return set(rows.filter(pk__in=left).values_list("pk", flat=True)) if left else left


def _held(epochs: Mapping[UUID, int]) -> set[UUID]:
    """Return the runs that are executed under these epochs, as far as it is committed."""
    rows = Run.objects.across_tenants().filter(pk__in=list(epochs), state=RunState.RUNNING.value)
    return {run_id for run_id, epoch in rows.values_list("pk", "epoch") if epoch == epochs[run_id]}


def _leave_out(by_run: dict[UUID, list[Write]], run_id: UUID) -> None:
    for write in by_run.pop(run_id, ()):
        write.busy = True


def _notify_parents(ended: Mapping[UUID, set[UUID]], fenced: Collection[UUID]) -> None:
    """Queue the parents that wait for child runs which end here; notify the executors of running parents."""
    ended = {parent_id: children.difference(fenced) for parent_id, children in ended.items()}
    runs = Run.objects.across_tenants()
    found = runs.filter(pk__in=[parent for parent, gone in ended.items() if gone]).values_list("pk", "state", "queue")
    states = {parent_id: state for parent_id, state, _ in found}
    waiting = [parent_id for parent_id, state in states.items() if state == RunState.WAITING]
    woken = {run_id for run_id, awaits in _awaits(waiting).items() if awaits & ended[run_id]} if waiting else set()
    if woken:
        runs.filter(pk__in=woken).update(state=RunState.QUEUED.value)
        for queue in {queue for parent_id, _, queue in found if parent_id in woken}:
            notifications().notify_queued(queue)
    for parent_id, state in states.items():
        if state == RunState.RUNNING:
            notifications().notify_news(parent_id)


def _awaits(run_ids: Iterable[UUID]) -> dict[UUID, set[UUID]]:
    """The child runs that the nodes of runs wait for, by run."""
    waiting = NodeRun.objects.across_tenants().filter(run__in=list(run_ids), state=NodeState.WAITING.value)
    found: dict[UUID, set[UUID]] = defaultdict(set)
    for run_id, wait in waiting.values_list("run_id", "wait"):
        if wait is not None:
            found[run_id].update(UUID(child) for child in awaited(Suspension.from_dict(wait)))
    return found


def _requeue_if_due(run_id: UUID, knows_stop: bool) -> None:
    """Queue a run that is being parked again if what it waits for came before that."""
    run = Run.objects.across_tenants().filter(pk=run_id)
    found = run.values_list("state", "queue", "pause_requested_at", "cancel_requested_at").get()
    state, queue, pause, stop = found
    # The executor that claims a run with a pause request parks it as paused.
    if (stop is not None and not knows_stop) or (pause is None) == (state == RunState.PAUSED):
        run.update(state=RunState.QUEUED.value, wake_at=None)
        notifications().notify_queued(queue)
        return
    if state == RunState.PAUSED:
        return
    received = RunSignal.objects.across_tenants().filter(run=run_id, consumed=False).values_list("name", flat=True)
    names = set(received)
    waiting = NodeRun.objects.across_tenants().filter(run=run_id, state=NodeState.WAITING.value)
    waits = [Suspension.from_dict(wait) for wait in waiting.values_list("wait", flat=True) if wait is not None]
    children = [child for wait in waits for child in awaited(wait)]
    over = Run.objects.across_tenants().filter(pk__in=children, state__in=TERMINAL_RUN_STATES)
    items = NodeItem.objects.across_tenants().filter(run=run_id, state=NodeState.WAITING.value, wait__isnull=False)
    has_come = any(wait.signal in names for wait in waits) or (children and over.exists())
    if has_come or (names and items.filter(wait__signal__in=sorted(names)).exists()):
        run.update(state=RunState.QUEUED.value)
        notifications().notify_queued(queue)


def _event_row(write: Write, event: Event, event_id: UUID, seq: int) -> batch_sql.Row:
    return {
        "id": event_id,
        "tenant_id": write.tenant_id,
        "run_id": write.run_id,
        "seq": seq,
        "type": event.type.value,
        "node_id": event.node_id or "",
        "at": moment(event.at),
        "data": event.data,
    }


def moment(at: float) -> datetime:
    """A POSIX time as a datetime in UTC."""
    return datetime.fromtimestamp(at, UTC)
