"""Random histories of slots: the rows agree with a model of the rules, and with what users are promised.

Runs and nodes of runs ask for slots of a few keys and give them back, runs end, executors are lost, and sweeps come or
do not. The model knows neither SQL nor transactions.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pyflow.core.states import TERMINAL_RUN_STATES
from runs.errors import FencedError
from runs.models import Run, Slot
from runs.queue.slots import (
    Ticket,
    Verdict,
    displaced_runs,
    enter,
    enter_run,
    leave,
    leave_run,
    places_of,
    reconcile,
    states_of_tickets,
)
from tests.support.factories.rows import make_tenant, make_workflow
from workflows.models import Version

pytestmark = [pytest.mark.database, pytest.mark.django_db]

Lane = tuple[str, str]
#: Limits that those who ask may give, in one history: mostly all the same.
LIMITS = st.sampled_from([[1], [2], [1, 2, 3]])
REFUSALS = {"skip": Verdict.SKIPPED, "fail": Verdict.REFUSED, "cancel_newest": Verdict.REFUSED}
ON_LIMIT = st.sampled_from(["queue"] * 6 + ["cancel_oldest"] * 3 + [*REFUSALS])
KEY = st.sampled_from(["k", "k", "k", "another"])
PRIORITY = st.sampled_from([1, 5, 5, 9])
#: Which of those that are in question.
WHICH = st.integers(0, 30)


@dataclass
class ModelRun:
    """A run as far as slots are concerned."""

    state: str = "running"
    epoch: int = 1
    is_cancelled: bool = False


@dataclass
class Place:
    """Who holds a slot of a key or waits for one: a run or (with an epoch) a node of it."""

    id: UUID
    run_id: UUID
    epoch: int | None
    priority: int
    limit: int
    is_held: bool = False
    is_displaced: bool = False


@dataclass
class Model:
    """The runs, and the places of each key, the oldest first."""

    runs: dict[UUID, ModelRun] = field(default_factory=dict)
    lanes: dict[Lane, list[Place]] = field(default_factory=lambda: defaultdict(list))

    def is_dead(self, place: Place) -> bool:
        run = self.runs[place.run_id]
        if place.epoch is not None and (run.state, run.epoch) != ("running", place.epoch):
            return True
        return run.state in TERMINAL_RUN_STATES

    def ask(self, lane: list[Place], place: Place, on_limit: str) -> Verdict:
        if not self.has_room(lane, place):
            self.bury(lane, also_waiting=on_limit == "cancel_oldest")
            self.serve(lane)
        if self.has_room(lane, place):
            place.is_held = True
        elif on_limit in REFUSALS:
            return REFUSALS[on_limit]
        elif on_limit == "cancel_oldest":
            self.displace(lane, place.limit)
        lane.append(place)
        return Verdict.HELD if place.is_held else Verdict.WAITING

    def ask_for_run(self, lane: list[Place], place: Place, on_limit: str, epoch: int) -> Verdict | None:
        """``None``: it was another executor's."""
        places = [other for places in self.lanes.values() for other in places]
        known = next((other for other in places if (other.run_id, other.epoch) == (place.run_id, None)), None)
        if known is None:
            verdict = self.ask(lane, place, on_limit)
        else:
            verdict = Verdict.HELD if known.is_held else Verdict.WAITING
        if verdict is Verdict.WAITING:
            run = self.runs[place.run_id]
            if (run.state, run.epoch) != ("running", epoch):
                return None
            run.state = "queued" if run.is_cancelled else "waiting"
        return verdict

    @staticmethod
    def has_room(lane: list[Place], place: Place) -> bool:
        first = [other for other in lane if other.is_held or other.priority >= place.priority]
        return len(first) < place.limit and all(other.is_held for other in first)

    def bury(self, lane: list[Place], *, also_waiting: bool = False) -> None:
        lane[:] = [place for place in lane if not self.is_dead(place) or not (place.is_held or also_waiting)]

    def serve(self, lane: list[Place]) -> None:
        while waiting := sorted((place for place in lane if not place.is_held), key=lambda place: -place.priority):
            head = waiting[0]
            if sum(place.is_held for place in lane) >= head.limit:
                return
            if self.is_dead(head):
                lane.remove(head)
                continue
            head.is_held = True
            if head.epoch is None and self.runs[head.run_id].state == "waiting":
                self.runs[head.run_id].state = "queued"

    def displace(self, lane: list[Place], limit: int) -> None:
        staying = [place for place in lane if not place.is_displaced]
        if len(staying) < limit:
            return
        oldest = next((place for place in staying if place.is_held), staying[0])
        assert not self.is_dead(oldest)
        oldest.is_displaced = True
        if oldest.epoch is None:
            run = self.runs[oldest.run_id]
            if not run.is_cancelled:
                run.is_cancelled = True
                run.state = run.state if run.state == "running" else "queued"

    def go(self, lane: list[Place], place: Place) -> None:
        lane.remove(place)
        self.serve(lane)


class SlotMachine(RuleBasedStateMachine):
    """Does everything twice, with the rows and with the model, and looks at both."""

    version: Version

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.limits: list[int] = []
        self.tickets: dict[UUID, Ticket] = {}
        self.rows: dict[UUID, Slot] = {}

    @initialize(limits=LIMITS, is_crowded=st.booleans())
    def begin(self, limits: list[int], is_crowded: bool) -> None:
        self.limits = limits
        for which, priority in enumerate([5, 1, 9, 5]):
            self.run_starts()
            if is_crowded:
                self.node_asks(which, "k", "queue", priority)
        for priority in [5, 1, 9] if is_crowded else []:
            self.run_asks(priority, "k", "queue", priority, 0)

    @rule()
    @precondition(lambda self: len(self.model.runs) < 12)
    def run_starts(self) -> None:
        run = Run.objects.create(
            tenant_id=self.version.tenant_id,
            workflow_id=self.version.workflow_id,
            version=self.version,
            state="running",
            epoch=1,
        )
        self.model.runs[run.pk] = ModelRun()

    @rule(which=WHICH, key=KEY, on_limit=ON_LIMIT, priority=PRIORITY)
    @precondition(lambda self: self.in_state("running"))
    def node_asks(self, which: int, key: str, on_limit: str, priority: int) -> None:
        run_id = self.one_of(self.in_state("running"), which)
        ticket = self.ticket(run_id, (key, which), on_limit, priority, self.model.runs[run_id].epoch)
        self.tickets[ticket.id] = ticket
        place = Place(ticket.id, run_id, ticket.run_epoch, priority, ticket.limit)
        assert enter(ticket) == self.model.ask(self.lane(ticket), place, on_limit)

    @rule(which=WHICH, key=KEY, on_limit=ON_LIMIT, priority=PRIORITY, is_stale=st.sampled_from([0, 0, 0, 1]))
    @precondition(lambda self: self.in_state("running"))
    def run_asks(self, which: int, key: str, on_limit: str, priority: int, is_stale: int) -> None:
        run_id = self.one_of(self.in_state("running"), which)
        ticket = self.ticket(run_id, (key, which), on_limit, priority, None)
        epoch = self.model.runs[run_id].epoch - is_stale
        before = copy.deepcopy(self.model)
        place = Place(ticket.id, run_id, None, priority, ticket.limit)
        expected = None if is_stale else self.model.ask_for_run(self.lane(ticket), place, on_limit, epoch)
        if expected is None:
            self.model = before
            with pytest.raises(FencedError):
                enter_run(ticket, epoch)
        else:
            assert enter_run(ticket, epoch) == expected

    @rule(which=WHICH)
    @precondition(lambda self: self.tickets)
    def node_leaves(self, which: int) -> None:
        ticket = self.tickets.pop(self.one_of(list(self.tickets), which))
        leave(ticket)
        lane = self.lane(ticket)
        for place in [place for place in lane if place.id == ticket.id]:
            self.model.go(lane, place)

    @rule(which=WHICH)
    @precondition(lambda self: self.in_state("queued"))
    def run_is_claimed(self, which: int) -> None:
        self.change(self.one_of(self.in_state("queued"), which), state="running", claims=1)

    @rule(which=WHICH)
    @precondition(lambda self: self.in_state("running"))
    def executor_is_lost(self, which: int) -> None:
        self.change(self.one_of(self.in_state("running"), which), claims=1)

    @rule(which=WHICH, is_killed=st.booleans())
    @precondition(lambda self: self.in_state("running", "queued", "waiting"))
    def run_ends(self, which: int, is_killed: bool) -> None:
        """``is_killed``: whoever recorded the end is gone before the slot was given back."""
        run_id = self.one_of(self.in_state("running", "queued", "waiting"), which)
        self.change(run_id, state="succeeded")
        if not is_killed:
            leave_run(run_id)
            for (kind, _), lane in self.model.lanes.items():
                for place in [place for place in lane if kind == "run" and place.run_id == run_id]:
                    self.model.go(lane, place)

    @rule()
    def sweep(self) -> None:
        lanes = self.model.lanes.values()
        found = [lane for lane in lanes if any(place.is_held and self.model.is_dead(place) for place in lane)]
        assert reconcile() == len(found)
        for lane in found:
            self.model.bury(lane)
            self.model.serve(lane)
        assert not [place for lane in lanes for place in lane if place.is_held and self.model.is_dead(place)]
        assert reconcile() == 0

    @invariant()
    def rows_are_as_the_model_says(self) -> None:
        places = [place for lane in self.model.lanes.values() for place in lane]
        slots = Slot.objects.for_tenant(self.version.tenant_id)
        before, self.rows = self.rows, {row.pk: row for row in slots}
        found = {row.pk: (row.held, row.displaced) for row in self.rows.values()}
        assert found == {place.id: (place.is_held, place.is_displaced) for place in places}
        runs = Run.objects.for_tenant(self.version.tenant_id).values_list("pk", "state", "epoch", "cancel_requested_at")
        assert {run_id: ModelRun(state, epoch, at is not None) for run_id, state, epoch, at in runs} == self.model.runs
        self.check_promises(before)

    def check_promises(self, before: dict[UUID, Slot]) -> None:
        """What holds whatever the model says."""
        lanes = defaultdict[str, list[Slot]](list)
        for row in sorted(self.rows.values(), key=lambda row: (-row.priority, row.pk)):
            lanes[row.lane].append(row)
        for lane in lanes.values():
            held, waiting = ([row for row in lane if row.held is kind] for kind in (True, False))
            assert len(held) <= max((row.limit for row in held), default=0)
            if waiting:
                assert len(held) >= waiting[0].limit, "one waits although there is room"
                promoted = [row for row in held if row.pk in before and not before[row.pk].held]
                # Who asks just now comes after those for whom its asking found room.
                first = next(((-row.priority, row.pk) for row in waiting if row.pk in before), None)
                assert all(first is None or (-row.priority, row.pk) < first for row in promoted), "one was passed over"

    @invariant()
    def requesters_are_notified(self) -> None:
        places = [(key, place) for (_, key), lane in self.model.lanes.items() for place in lane]
        nodes = {place.id: (place.is_held, place.is_displaced) for _, place in places if place.epoch is not None}
        assert states_of_tickets(self.tickets) == nodes
        runs = {place.run_id: key for key, place in places if place.epoch is None and place.is_displaced}
        assert displaced_runs(self.model.runs) == runs

    @rule(which=WHICH)
    @precondition(lambda self: self.model.runs)
    def somebody_asks_for_whom_a_run_waits(self, which: int) -> None:
        run_id = self.one_of(list(self.model.runs), which)
        expected = []
        for (_, key), lane in self.model.lanes.items():
            holders = [place.run_id for place in lane if place.is_held]
            queue = sorted((place for place in lane if not place.is_held), key=lambda place: -place.priority)
            for place in lane:
                if place.run_id == run_id:
                    waits = (queue.index(place), holders) if place in queue else (None, [])
                    expected.append((key, place.limit, len(holders), *waits))
        found = [
            (place.key, place.limit, place.held, place.ahead, [holder.run_id for holder in place.holders])
            for place in places_of(tenant_id=self.version.tenant_id, run_id=run_id)
        ]
        assert sorted(found, key=repr) == sorted(expected, key=repr)

    def teardown(self) -> None:
        """When all have ended, however their executors did, the next sweep leaves no slot."""
        for run_id in self.model.runs:
            self.change(run_id, state="failed")
        reconcile()
        left = Slot.objects.for_tenant(self.version.tenant_id)
        assert not left.exists()
        Run.objects.for_tenant(self.version.tenant_id).delete()

    def in_state(self, *states: str) -> list[UUID]:
        return [run_id for run_id, run in self.model.runs.items() if run.state in states]

    @staticmethod
    def one_of(those: list[Any], which: int) -> Any:
        return those[which % len(those)]

    def ticket(self, run_id: UUID, wanted: tuple[str, int], on_limit: str, priority: int, epoch: int | None) -> Ticket:
        key, which = wanted
        return Ticket(
            tenant_id=self.version.tenant_id,
            run_id=run_id,
            key=key,
            limit=self.one_of(self.limits, which),
            on_limit=on_limit,
            priority=priority,
            node_id="" if epoch is None else "a",
            run_epoch=epoch,
        )

    def lane(self, ticket: Ticket) -> list[Place]:
        return self.model.lanes["run" if ticket.run_epoch is None else "node", ticket.key]

    def change(self, run_id: UUID, *, state: str = "running", claims: int = 0) -> None:
        """As executors do it, who claim runs and end them."""
        run = self.model.runs[run_id]
        run.state, run.epoch = state, run.epoch + claims
        Run.objects.across_tenants().filter(pk=run_id).update(state=state, epoch=run.epoch)


def test_random_histories_of_slots_are_as_the_rules_say():
    version = make_workflow(make_tenant())
    machine = type("Machine", (SlotMachine,), {"version": version})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=30,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            # Shrinking takes minutes, and a test has two. Given more, `Phase.shrink` finds a short history.
            phases=[Phase.generate],
        ),
    )
