"""Executes one claimed run: its services, and the notifications that arrive meanwhile."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID

from pyflow.core.errors import PyFlowError
from pyflow.core.result import NodeRun, RunResult
from pyflow.core.states import RunState
from pyflow.core.suspension import Signal
from pyflow.execution.admission import displaced
from pyflow.execution.engine import Execution, RunRequest, WorkflowEngine
from pyflow.execution.plan import compile_stored
from pyflow.execution.shared import RunParkedError
from runs.errors import FencedError, LeaseLapsedError
from runs.queue.leases import MAX_LOSSES, Claim, Lease
from runs.queue.slots import displaced_runs, leave_run
from runs.services.end import QUEUE_TIMEOUT, WORKER_LOST, end_run, failing
from runs.services.stop_children import STOPPED_AT_ONCE, stop_children
from runs.storage.reader import Call, Reader
from runs.storage.writer import GroupWriter
from runs.worker.children import DatabaseChildRuns
from runs.worker.concurrency import DatabaseSlots
from runs.worker.engines import Engines
from runs.worker.remote_nodes import DatabaseRemoteNodes
from runs.worker.run_values import RunValues
from runs.worker.secrets import RunSecrets
from runs.worker.sink import DatabaseSink
from runs.worker.wakeups import WakeUps
from secrets_vault.providers import secrets_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Work:
    """A claimed run with what is on record of it."""

    claim: Claim
    recorded: dict[str, NodeRun]
    signals: list[Signal]


@dataclass(frozen=True, slots=True)
class Shared:
    """Services that the executions of one executor share.

    ``call`` and ``call_slots`` call functions on threads for the database, the latter those about slots and child runs,
    which may wait for other transactions: news of other tenants' runs must not queue behind them. ``vault`` and
    ``values`` are threads of their own: nodes wait on the event loop for secrets, which must not queue behind other
    reads, and a large value that is written must not hold up anything else. ``waiting`` counts what each run awaits
    while it executes: child runs, node tasks, slots. ``look_at`` is called with the time at which a
    parked one is due, ``lapsed`` for each lease that was not renewed in time: its run is to be handed back, or others
    have it by now.
    """

    call: Call
    call_slots: Call
    writer: GroupWriter
    engines: Engines
    vault: Reader
    values: Reader
    wakeups: WakeUps
    waiting: Counter[UUID]
    look_at: Callable[[float | None], None]
    lapsed: Callable[[Lease], None]


class RunExecution:
    """Executes a claimed run as a task of the event loop, from its construction on.

    ``trusted_until``: how long its lease is relied on (monotonic seconds); whoever renews it moves it on.
    """

    def __init__(self, work: Work, shared: Shared, trusted_until: float) -> None:
        claim, call, waiting = work.claim, shared.call, shared.waiting
        self.run_id, self.tenant_id, self.epoch = claim.run_id, claim.tenant_id, claim.epoch
        self.trusted_until = trusted_until
        self._work = work
        self._claim = claim
        self._shared = shared
        self._execution: Execution | None = None
        self._is_under_way = False
        self._has_lapsed = False
        source = secrets_of(claim.tenant_id, claim.tenant_slug)
        self._secrets = RunSecrets(source, shared.vault.submit, claim.secrets_used)
        self._values = RunValues(claim, shared.values.submit)
        self._sink = DatabaseSink(shared.writer, claim, lambda: self.is_trusted, self._secrets, self._values)
        self.children = DatabaseChildRuns(claim, shared.call_slots, self._stops_here, waiting, self._secrets)
        self.remote = DatabaseRemoteNodes(
            claim, call, waiting, self._secrets, self._values, self._sink.log, self._sink.report
        )
        self.slots = DatabaseSlots(claim, shared.call_slots, waiting)
        self.task = asyncio.create_task(self._execute())

    @property
    def lease(self) -> Lease:
        """The run with the epoch under which it is executed here."""
        return self.run_id, self.epoch

    @property
    def under_way(self) -> Execution | None:
        """Return the engine's execution, from its start until it has a result."""
        return self._execution if self._is_under_way else None

    @property
    def is_trusted(self) -> bool:
        """Return whether the lease is relied on."""
        return self.trusted_until > time.monotonic()

    @property
    def has_ended(self) -> bool:
        """Return whether the end of the run is written, or about to be: only the work after the end is left."""
        return self._sink.has_ended

    def give_up(self) -> None:
        """Stop executing what another process may have claimed by now."""
        self.lapse()
        self.task.cancel()

    def lapse(self) -> None:
        """Report the lease as lapsed, once: a loss that another process has counted is taken back for each report."""
        if not self._has_lapsed:
            self._has_lapsed = True
            self._shared.lapsed(self.lease)

    def stop(self, key: str | None) -> None:
        """Because somebody asked for it or, with a ``key``, to make room for a newer run of that key."""
        if self._execution is None:
            return
        knows = self._execution.cancel() if key is None else self._execution.give_way(displaced(key))
        # One that comes while the run is put down is seen when that is stored, and queues the run again.
        self._sink.knows_stop = self._sink.knows_stop or knows

    def child_ended(self, child_id: UUID) -> None:
        """Notify the nodes that wait for a child run here."""
        if self.under_way is not None and not self.children.ended(child_id):
            self.under_way.child_ended(str(child_id))

    def ended_elsewhere(self) -> None:
        """An end is recorded, and if it was not this execution that did it, nothing of it counts any more."""
        if self.under_way is not None and not self._sink.has_ended:
            self.task.cancel()

    def _stops_here(self) -> bool:
        return self._execution is None or self._execution.abandoned

    async def _execute(self) -> None:
        run_id = self._claim.run_id
        try:
            await self._run()
        except LeaseLapsedError:
            logger.warning("run %s stopped here: its lease was not renewed in time", run_id)
            self.lapse()
        except FencedError:
            logger.warning("fenced: run %s belongs to another process now", run_id)
            self.lapse()
        except RunParkedError as reason:
            logger.debug("%s", reason)
        except Exception:
            # Nothing is lost: the lease runs out, and somebody goes on from what is recorded.
            logger.exception("run %s stopped here; it is taken up again when its lease ends", run_id)
        finally:
            self._sink.close()

    async def _run(self) -> None:
        claim, call = self._claim, self._shared.call
        if claim.too_late:
            await call(partial(end_run, run_id=claim.run_id, epoch=claim.epoch, ending=QUEUE_TIMEOUT))
            return
        if claim.losses >= MAX_LOSSES:
            logger.error("run %s was lost with %d executors in a row; it fails", claim.run_id, claim.losses)
            await call(partial(end_run, run_id=claim.run_id, epoch=claim.epoch, ending=WORKER_LOST))
            return
        if claim.pause_requested and not claim.cancel_requested:
            await self._sink.pause()
            return
        engine = self._shared.engines.enter(claim)
        try:
            self._execution = await self._begin(engine)
        except PyFlowError as error:
            # Accepted once, but not runnable here and now: a plugin that was removed, say, or a large value is damaged.
            # What it waited for until now ends with it.
            await call(partial(end_run, run_id=claim.run_id, epoch=claim.epoch, ending=failing(error)))
            return
        await self._secrets.mask_with(self._execution.context.redactor)
        if claim.cancel_requested:
            keys = await call(displaced_runs, [claim.run_id])
            self.stop(keys.get(claim.run_id))
        self._is_under_way = True
        if self._shared.wakeups.has_news:
            self._shared.wakeups.wake()
        result = await self._execution.wait()
        self._is_under_way = False
        await self._leave(self._execution, result)

    async def _begin(self, engine: WorkflowEngine) -> Execution:
        claim, recorded = self._claim, self._work.recorded
        input = claim.input if claim.input_ref is None else await self._values.load(claim.input_ref)
        await self._values.fill(recorded)
        self._sink.restore(recorded, input)
        plan = compile_stored(claim.checksum, lambda: claim.definition, engine.registry)
        self._sink.may_have_children = any(node.child for node in plan.nodes)
        request = RunRequest(
            plan,
            run_id=str(claim.run_id),
            input=input if plan.version != 1 else None,
            initial_context={"trigger": input},
            recorded=recorded,
            signals=self._work.signals,
            lineage=claim.lineage,
            begun_at=claim.begun_at,
            park=True,
        )
        services = replace(
            engine.services,
            sink=self._sink,
            children=self.children,
            secrets=self._secrets,
            remote=self.remote,
            slots=self.slots,
        )
        return engine.start(request, services)

    async def _leave(self, execution: Execution, result: RunResult) -> None:
        """Finish the execution once the engine has stopped, for now or for good."""
        if result.state is RunState.PAUSED:
            await self._sink.pause()
        elif result.state is RunState.WAITING:
            await self._sink.park(result.wake_at)
            self._shared.look_at(result.wake_at)
            return
        if execution.plan.run_concurrency is not None:
            await self._shared.call_slots(leave_run, self._claim.run_id)
        if result.state is not RunState.SUCCEEDED and self._sink.may_have_children:
            # Those of nodes that were under way in a process that died are waited for by nobody here.
            run_id, epoch = self._claim.run_id, self._claim.epoch
            # On the thread that claims for all tenants: what others have locked, and a large family, is left to sweeps.
            await self._shared.call(
                partial(stop_children, parent_id=run_id, epoch=epoch, limit=STOPPED_AT_ONCE, wait=False)
            )
