"""Plays a case on the platform: executors of its own, verbs as an operator gives them, and lost leases."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.utils import timezone

from pyflow.core.states import TERMINAL_RUN_STATES
from runs.errors import RunFinishedError, RunStateError, SignalNotAwaitedError
from runs.models import NodeItem, NodeRun, Run
from runs.services.cancel import cancel_run
from runs.services.pause import pause_run, resume_run
from runs.services.signals import signal_run
from runs.services.start import Start, start_run
from runs.services.terminate import terminate_run
from runs.storage.reading import output_of, outputs_of
from runs.worker.inprocess import InProcessExecutor
from tenants.models import Tenant
from tests.model.language import SIGNAL, Became, Case
from tests.model.library import INPUT
from tests.model.nodes import Hold, Ledger, Stage
from tests.support import waiting
from tests.support.factories.rows import a_test
from workflows.services import put_workflow

_numbers = itertools.count(1)


def store(tenant: Tenant, document: dict[str, Any]) -> None:
    """Store a workflow."""
    put_workflow(by=a_test(tenant), name=document["name"], source=json.dumps(document), source_format="json")


class Executors:
    """The executors of a case: one at a time, but for one that is replaced because its lease has lapsed."""

    def __init__(self) -> None:
        self._all: list[InProcessExecutor] = []

    def start(self) -> None:
        """Have another one."""
        executor = InProcessExecutor()
        executor.start()
        self._all.append(executor)

    def stop(self) -> None:
        """Have all of them hand back what they execute, and end: none goes on with what another one hands back."""
        for timeout in (0.0, 5.0):
            for executor in self._all:
                executor.stop(timeout)
        self._all.clear()


@contextmanager
def executors() -> Iterator[Executors]:
    """Executors that end with the block."""
    made = Executors()
    made.start()
    try:
        yield made
    finally:
        made.stop()


class Play:
    """One case on the platform."""

    def __init__(self, case: Case, stage: Stage, tenant: Tenant) -> None:
        self.case, self.tenant, self.by = case, tenant, a_test(tenant)
        self.ledger = stage.ledger = Ledger(moment for moment, _ in case.interruptions)
        name = f"case-{next(_numbers)}"
        store(tenant, case.document(name))
        self.run = start_run(by=self.by, workflow_name=name, start=Start(input=INPUT)).run
        self.late = []
        for node in case.sections["nodes"]:
            if node.kind == "signal" and node.early:
                self.send(node.id)
            elif node.kind == "signal":
                self.late.append(node.id)
        self.losses = 0
        self.cancelled = self.terminated = False

    def send(self, name: str) -> None:
        """Deliver a signal."""
        try:
            signal_run(by=self.by, sender=None, run_id=self.run.pk, name=name, payload=SIGNAL, signal_id=name)
        except (RunFinishedError, SignalNotAwaitedError):
            self.late = [other for other in self.late if other != name]

    def look(self) -> bool:
        """Whether the run has ended; signals that nodes wait for are delivered, and a paused run is resumed."""
        self.run.refresh_from_db()
        for name in list(self.late):
            if NodeRun.objects.for_tenant(self.tenant).filter(run=self.run, node_id=name, state="waiting").exists():
                self.late.remove(name)
                self.send(name)
        if self.run.state == "paused":
            self.ask(resume_run)
        return self.run.finished_at is not None

    def ask(self, verb: Any) -> bool:
        """Ask the run for something; whether that was possible: it may have ended, or was asked to stop."""
        try:
            verb(by=self.by, run_id=self.run.pk)
        except (RunFinishedError, RunStateError):
            return False
        return True

    def to_the_end(self, executors: Executors) -> Became:
        """Play, and say what became of it."""
        self.executors = executors
        try:
            for moment, verb in self.case.interruptions:
                hold = self.ledger.holds[moment]
                while not hold.reached.wait(0.005) and not self.look():
                    pass
                if not hold.reached.is_set():
                    break
                getattr(self, verb.replace("-", "_"))(hold)
                hold.go.set()
            waiting.until(self.look, seconds=30, what=f"end of the run, which is {self.run.state}")
        finally:
            for hold in self.ledger.holds.values():
                hold.go.set()
        waiting.until(self.has_no_family, what="end of the child runs")
        return self.became()

    def has_no_family(self) -> bool:
        """Whether all child runs have ended."""
        family = Run.objects.for_tenant(self.tenant).filter(parent=self.run)
        return not family.exclude(state__in=TERMINAL_RUN_STATES).exists()

    def pause(self, _: Hold) -> None:
        """Pause; it is resumed once it is parked."""
        self.ask(pause_run)
        time.sleep(0.01)  # it may hear of it before it goes on, or not

    def pause_now(self, _: Hold) -> None:
        """Pause, and resume at once."""
        self.ask(pause_run)
        self.ask(resume_run)

    def cancel(self, _: Hold) -> None:
        """Ask it to stop."""
        self.cancelled |= self.ask(cancel_run)

    def terminate(self, _: Hold) -> None:
        """End it."""
        self.terminated |= self.ask(terminate_run)

    def restart(self, _: Hold) -> None:
        """Stop the executor, which hands the run back, and have another one."""
        self.losses += 1
        self.executors.stop()
        self.executors.start()

    def lapse(self, _: Hold) -> None:
        """Let the lease end while the executor goes on, and wait until another one has the run."""
        self.losses += 1
        self.executors.start()
        family = Run.objects.for_tenant(self.tenant).filter(state="running")
        epochs = dict(family.values_list("pk", "epoch"))
        family.update(lease_until=timezone.now() - timedelta(seconds=1))

        def is_taken_over() -> bool:
            now = dict(Run.objects.for_tenant(self.tenant).filter(state="running").values_list("pk", "epoch"))
            return all(now.get(run) != epoch for run, epoch in epochs.items())

        waiting.until(is_taken_over, what="another executor of the run")

    def became(self) -> Became:
        """What became of it."""
        self.run.refresh_from_db()
        rows = {row.node_id: row for row in NodeRun.objects.for_tenant(self.tenant).filter(run=self.run)}
        items = NodeItem.objects.for_tenant(self.tenant).filter(run=self.run)
        return Became(
            self.run.state,
            outputs_of(self.run),
            None if self.run.error is None else self.run.error["node_id"],
            self.run.compensation,
            {id: (row.state, row.attempts, output_of(row)) for id, row in rows.items()},
            {(item.node_id, item.index): (item.state, item.attempts) for item in items},
            {id: row.finished_at.timestamp() if row.finished_at else 0.0 for id, row in rows.items()},
            losses=self.losses,
            cancelled=self.cancelled,
            terminated=self.terminated,
            calls=self.ledger.calls,
        )
