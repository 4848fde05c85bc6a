"""Random histories of claims: each run is claimed once in an epoch, in the order that is documented, and none is left.

Runs of three tenants, two of which have a limit, wait in two queues with several priorities. Executors of one queue or
both claim them, are lost, go on all the same, hand back, finish and park; timers come due. The model knows neither SQL
nor transactions.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from runs.models import POISON_LOSSES, Run
from runs.queue.leases import Claim, Lease, claim, poison_runs_wait, release, renew, unclaimed_queues
from runs.storage.writer import store
from tests.support.factories import records
from tests.support.factories.rows import allow, make_tenant, make_workflow
from workflows.models import Version

pytestmark = [pytest.mark.database, pytest.mark.django_db]

Pair = tuple[str, int]
QUEUES = ("", "q")
#: The queues that each executor serves.
EXECUTORS: dict[str, set[str] | None] = {"all": None, "default": {""}, "q": {"q"}, "another": None}
WHO = st.sampled_from([*EXECUTORS])
LIMITS = st.tuples(st.just(1_000), st.sampled_from([1, 2, 5]), st.sampled_from([0, 3]))
WHICH = st.integers(0, 30)


@dataclass
class ModelRun:
    """A run as far as claims are concerned."""

    tenant: int
    queue: str
    order: tuple[int, int]
    """Its place in the queue: the priority, highest first, then the age."""
    state: str = "queued"
    owner: str = ""
    epoch: int = 0
    losses: int = 0
    is_lapsed: bool = False
    is_due: bool = False

    @property
    def pair(self) -> Pair:
        return self.queue, self.tenant

    @property
    def is_overdue(self) -> bool:
        return (self.state == "running" and self.is_lapsed) or (self.state == "waiting" and self.is_due)


class ClaimMachine(RuleBasedStateMachine):
    """Does to the rows and to the model the same, and compares."""

    versions: list[Version]

    def __init__(self) -> None:
        super().__init__()
        self.runs: dict[UUID, ModelRun] = {}
        #: What each executor believes that it executes.
        self.executing: dict[str, dict[UUID, Claim]] = defaultdict(dict)
        #: What each has stopped executing and not handed back yet.
        self.given_up: dict[str, set[Lease]] = defaultdict(set)
        self.claimed: set[tuple[UUID, int]] = set()

    @initialize(limits=LIMITS)
    def begin(self, limits: tuple[int, ...]) -> None:
        Run.objects.across_tenants().delete()
        self.limits = limits
        for version, limit in zip(self.versions, limits, strict=True):
            allow(version.tenant, limit)

    @rule(
        tenant=st.integers(0, 2),
        queue=st.sampled_from(QUEUES),
        priority=st.sampled_from([1, 5, 5, 9]),
        count=st.sampled_from([1, 1, 2, 15]),
    )
    def start(self, tenant: int, queue: str, priority: int, count: int) -> None:
        version, rows = self.versions[tenant], []
        for _ in range(count):
            number = len(self.runs)
            at = timezone.now() + timedelta(microseconds=number)
            row = Run(
                tenant_id=version.tenant_id,
                workflow_id=version.workflow_id,
                version=version,
                queue=queue,
                priority=priority,
                created_at=at,
            )
            rows.append(row)
            self.runs[row.pk] = ModelRun(tenant, queue, (-priority, number))
        Run.objects.bulk_create(rows)

    @rule(who=WHO, limit=st.sampled_from([1, 3, 10, 30]), overdue=st.booleans(), poison_runs=st.booleans())
    def claims(self, who: str, limit: int, overdue: bool, poison_runs: bool) -> None:
        queues = EXECUTORS[who]
        active = self.executing[who]
        served = [
            (run_id, run)
            for run_id, run in self.runs.items()
            if (queues is None or run.queue in queues) and run_id not in active
        ]
        if overdue:
            self.queue_overdue([run for _, run in served])
        # The runs of each tenant's queue that may be taken, in their order.
        open_ones = defaultdict[Pair, list[UUID]](list)
        for run_id, run in sorted(served, key=lambda item: item[1].order):
            if run.state == "queued" and (run.losses == POISON_LOSSES) is poison_runs:
                open_ones[run.pair].append(run_id)
        running = self.running()

        taken = claim(who, limit, None, list(active), queues=queues, overdue=overdue, poison_runs=poison_runs)

        assert len({claimed.run_id for claimed in taken}) == len(taken) <= limit
        by_pair = defaultdict[Pair, list[UUID]](list)
        for claimed in taken:
            run = self.runs[claimed.run_id]
            by_pair[run.pair].append(claimed.run_id)
            run.state, run.owner, run.epoch, run.is_lapsed = "running", who, run.epoch + 1, False
            assert claimed.epoch == run.epoch
            assert (claimed.run_id, claimed.epoch) not in self.claimed
            self.claimed.add((claimed.run_id, claimed.epoch))
            active[claimed.run_id] = claimed
        for pair, run_ids in by_pair.items():
            assert run_ids == open_ones[pair][: len(run_ids)], "the most urgent come first, of those the oldest"
        self.check_shares(limit, open_ones, {pair: len(run_ids) for pair, run_ids in by_pair.items()}, running)

    def queue_overdue(self, runs: list[ModelRun]) -> None:
        for run in runs:
            if run.state == "running" and run.is_lapsed:
                run.state, run.owner, run.epoch, run.losses = "queued", "", run.epoch + 1, run.losses + 1
            elif run.state == "waiting" and run.is_due:
                run.state = "queued"

    def check_shares(
        self, limit: int, open_ones: dict[Pair, list[UUID]], taken: dict[Pair, int], running: Counter[int]
    ) -> None:
        """No place is left empty that somebody could have, and nobody has more than one more than who wanted more."""
        now = self.running()
        wanting = [
            pair
            for pair, run_ids in open_ones.items()
            if len(run_ids) > taken.get(pair, 0) and now[pair[1]] < self.limits[pair[1]]
        ]
        assert not wanting or sum(taken.values()) == limit
        for pair in wanting:
            for other, count in taken.items():
                assert count <= taken.get(pair, 0) + 1
                if count > taken.get(pair, 0):
                    assert running[other[1]] <= running[pair[1]], "those first of whom the fewest are executed"

    @invariant()
    def no_tenant_has_more_executed_than_its_limit(self) -> None:
        for tenant, count in self.running().items():
            assert count <= self.limits[tenant]

    @invariant()
    def rows_are_as_the_model_says(self) -> None:
        columns = ("pk", "state", "owner", "epoch", "losses")
        found = {row[0]: row[1:] for row in Run.objects.across_tenants().values_list(*columns)}
        assert found == {run_id: (run.state, run.owner, run.epoch, run.losses) for run_id, run in self.runs.items()}

    @rule()
    def the_sweeper_looks(self) -> None:
        assert unclaimed_queues() == {
            run.queue for run in self.runs.values() if run.state == "queued" or run.is_overdue
        }
        poison_runs = [run for run in self.runs.values() if run.losses == POISON_LOSSES]
        waiting = [run for run in poison_runs if run.state == "queued" or (run.state == "waiting" and run.is_due)]
        assert poison_runs_wait(None) is bool(waiting)

    @rule(who=WHO)
    def is_frozen(self, who: str) -> None:
        """Its leases end; what it does afterwards counts only as long as nobody has noticed."""
        lapsed = [run_id for run_id, run in self.runs.items() if run.owner == who]
        for run_id in lapsed:
            self.runs[run_id].is_lapsed = True
        self.change(lapsed, lease_until=timezone.now() - timedelta(seconds=1))

    @rule(who=WHO)
    def dies(self, who: str) -> None:
        self.is_frozen(who)
        self.executing[who].clear()
        self.given_up[who].clear()

    @rule(who=WHO, which=WHICH)
    def gives_up(self, who: str, which: int) -> None:
        """It stops executing a run; it may claim it again, once it has lost it, before it hands back what it had."""
        if self.executing[who]:
            known = self.executing[who].pop([*self.executing[who]][which % len(self.executing[who])])
            self.given_up[who].add((known.run_id, known.epoch))

    @rule(who=WHO)
    def renews(self, who: str) -> None:
        leases = self.leases(who)
        held = self.held(who, leases)
        assert renew(who, leases) == held
        for run_id in held:
            self.runs[run_id].is_lapsed = False
        self.executing[who] = {run_id: known for run_id, known in self.executing[who].items() if run_id in held}

    @rule(who=WHO)
    def hands_back(self, who: str) -> None:
        leases = self.leases(who) | self.given_up[who]
        held = self.held(who, leases)
        assert release(who, leases) == held
        for run_id in held:
            run = self.runs[run_id]
            run.state, run.owner, run.epoch, run.is_lapsed = "queued", "", run.epoch + 1, False
        self.executing[who].clear()
        self.given_up[who].clear()

    @rule(who=WHO, which=WHICH)
    def finishes(self, who: str, which: int) -> None:
        self.writes(who, which, state="succeeded", wake_at=None)

    @rule(who=WHO, which=WHICH, is_due=st.booleans())
    def parks(self, who: str, which: int, is_due: bool) -> None:
        self.writes(who, which, state="waiting", wake_at=timezone.now() + timedelta(days=-1 if is_due else 1))

    def writes(self, who: str, which: int, **changes: Any) -> None:
        """Write as the executor that it was when it claimed the run: it may not be any more."""
        if not self.executing[who]:
            return
        run_id = [*self.executing[who]][which % len(self.executing[who])]
        known, run = self.executing[who].pop(run_id), self.runs[run_id]
        write = records.new_write(known)
        write.changes = {"owner": "", "lease_until": None, **changes}
        is_held = (run.state, run.epoch) == ("running", known.epoch)
        assert store([write]) == (set() if is_held else {run_id})
        if is_held:
            run.state, run.owner, run.is_lapsed = changes["state"], "", False
            run.is_due = changes["wake_at"] is not None and changes["wake_at"] < timezone.now()

    @rule(which=WHICH)
    def a_timer_comes_due(self, which: int) -> None:
        waiting = [run_id for run_id, run in self.runs.items() if run.state == "waiting"]
        for run_id in waiting[which % (len(waiting) + 1) :]:
            self.runs[run_id].is_due = True
            self.change([run_id], wake_at=timezone.now() - timedelta(seconds=1))

    def teardown(self) -> None:
        """When all executors are gone and all timers due, another one comes to the end of all runs."""
        for who in EXECUTORS:
            self.dies(who)
        self.a_timer_comes_due(0)
        rounds = 0
        while left := [run for run in self.runs.values() if run.state != "succeeded" and self.limits[run.tenant]]:
            assert rounds <= len(left) + 2 * POISON_LOSSES, "none is passed over for ever"
            rounds += 0 if self.round() else 1

    def round(self) -> int:
        """Claim what there is and end it; how many these were."""
        for poison_runs in (False, True):
            self.claims("all", 10, overdue=True, poison_runs=poison_runs)
        ended = len(self.executing["all"])
        while self.executing["all"]:
            self.finishes("all", 0)
        return ended

    def leases(self, who: str) -> set[Lease]:
        return {(run_id, known.epoch) for run_id, known in self.executing[who].items()}

    def held(self, who: str, leases: set[Lease]) -> set[UUID]:
        runs = self.runs
        return {run_id for run_id, epoch in leases if (runs[run_id].owner, runs[run_id].epoch) == (who, epoch)}

    def running(self) -> Counter[int]:
        return Counter(run.tenant for run in self.runs.values() if run.state == "running")

    @staticmethod
    def change(run_ids: list[UUID], **values: Any) -> None:
        Run.objects.across_tenants().filter(pk__in=run_ids).update(**values)


def test_random_histories_of_claims_are_as_the_rules_say(settings):
    settings.PYFLOW_LEASE_SECONDS = 3600.0
    versions = [make_workflow(make_tenant()) for _ in range(3)]
    machine = type("Machine", (ClaimMachine,), {"versions": versions})
    run_state_machine_as_test(machine, settings=BUDGET)


BUDGET = settings(
    max_examples=10,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    # Shrinking takes minutes, and a test has two. Given more, `Phase.shrink` finds a short history.
    phases=[Phase.generate],
)
