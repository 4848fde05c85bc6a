"""Each invariant is noticed when it is broken by hand."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from pyflow.core.ids import new_uuid
from runs.models import EventRecord, NodeItem, NodeRun, NodeTask, Run, RunLog, RunSignal, Slot
from tenants.models import AuditEntry, AuditHead, Tenant, UsageCounter
from tests.support import invariants
from tests.support.append_only import lifted
from tests.support.factories.nodes import register, workflow
from tests.support.factories.rows import make_run, make_tenant
from tests.support.processes.running import ended

pytestmark = pytest.mark.database
Change = Callable[[Run], None]


def run_is(**changes: object) -> Change:
    return lambda run: _rows(Run, run).update(**changes)


def an_event(seq: int | None = None, /, **changes: object) -> Change:
    """Change the event of this number, or add one at the end."""

    def change(run: Run) -> None:
        if seq is not None:
            EventRecord.objects.across_tenants().filter(run=run, seq=seq).update(**changes)
            return
        values = {"type": "node.started", "node_id": "one", "data": {}, "position": run.log_position} | changes
        at, number = timezone.now(), run.event_seq + 1
        EventRecord.objects.create(id=new_uuid(), tenant=run.tenant, run=run, seq=number, at=at, **values)
        _rows(Run, run).update(event_seq=number)

    return change


def node_is(**changes: object) -> Change:
    return lambda run: NodeRun.objects.across_tenants().filter(run=run, node_id="one").update(**changes)


def a_slot(**values: object) -> Change:
    def add(run: Run) -> None:
        both = {"tenant": run.tenant, "run": run, "key": "k", "lane": "l", "limit": 1, "held": True} | values
        Slot.objects.create(**both)

    return add


def a_slot_of(state: str, **values: object) -> Change:
    def add(run: Run) -> None:
        _rows(Run, run).update(state=state, finished_at=None, owner="x", lease_until=timezone.now(), epoch=7)
        a_slot(**values)(run)

    return add


def a_task(run: Run) -> None:
    NodeTask.objects.create(tenant=run.tenant, run=run, run_epoch=1, node_id="one", places=[])


def item_is(**changes: object) -> Change:
    values = {"node_id": "one", "index": 0, "key": "0", "state": "retrying", "at": timezone.now()} | changes
    return lambda run: NodeItem.objects.create(tenant=run.tenant, run=run, **values)


def an_orphan(run: Run) -> None:
    other = make_run(run.tenant, GRAPH)
    _rows(Run, other).update(parent=run, on_parent_cancel="terminate")


def a_signal_is_slept_through(run: Run) -> None:
    _rows(Run, run).update(state="waiting", finished_at=None)
    wait = {"until": None, "signal": "go", "details": {}}
    node_is(state="waiting", wait=wait, finished_at=None)(run)
    RunSignal.objects.create(tenant=run.tenant, run=run, name="go", dedupe_id="1")


def somebody_elses_log(run: Run) -> None:
    RunLog.objects.create(tenant=make_tenant(), run=run, seq=1, level=20, at=timezone.now(), message="hello")
    _rows(Run, run).update(log_lines=1)


def a_line_more(run: Run) -> None:
    _rows(Run, run).update(log_lines=F("log_lines") + 1)


def more_bytes(run: Run) -> None:
    UsageCounter.objects.for_tenant(run.tenant).filter(name="stored_bytes").update(count=F("count") + 1)


def fewer_runs(run: Run) -> None:
    UsageCounter.objects.for_tenant(run.tenant).filter(name="runs_per_day").update(count=F("count") - 1)


def a_limit_of_none(run: Run) -> None:
    a_slot_of("running", held=False, limit=0, run_epoch=7)(run)
    Tenant.objects.filter(pk=run.tenant_id).update(limits={"concurrent_runs": 0})


def the_audit_has_a_hole(run: Run) -> None:
    with lifted():
        AuditEntry.objects.for_tenant(run.tenant).filter(seq=1).delete()


def the_audit_has_no_head(run: Run) -> None:
    AuditHead.objects.for_tenant(run.tenant).delete()


def _rows(model: type[Run], run: Run):
    return model.objects.across_tenants().filter(pk=run.pk)


NOW, LATER = timezone.now(), timezone.now() + timedelta(days=1)
GRAPH = workflow("{id: one, type: act}", "{id: two, type: act, depends_on: [one]}")
#: 1 run.queued, 2 run.started, 3 node.started one, 4 node.succeeded one, …, 7 run.succeeded.
WRONGS: dict[str, list[Change]] = {
    "events_are_numbered_without_a_gap": [an_event(2, seq=70), run_is(event_seq=9)],
    "the_log_has_the_events_of_a_run_in_their_order": [run_is(log_position=0), an_event(position=0)],
    "a_run_is_queued_first_and_again_by_each_retry": [an_event(1, type="run.started"), run_is(retries=1)],
    "each_claim_starts_a_run_once": [an_event(3, type="run.started"), run_is(claims=0), run_is(claims=9)],
    "nothing_comes_after_the_end": [an_event(), an_event(type="run.succeeded")],
    "the_last_event_is_the_end": [run_is(state="failed"), run_is(state="queued"), an_event(type="node.progress")],
    "a_node_has_one_result": [an_event(5, type="node.succeeded", node_id="one")],
    "a_completed_node_is_not_started_again": [an_event(5, node_id="one")],
    "rows_of_nodes_say_what_events_say": [node_is(state="failed"), node_is(node_id="three")],
    "log_lines_are_numbered_without_a_gap": [a_line_more],
    "ended_runs_say_when": [run_is(finished_at=None), run_is(wake_at=LATER), run_is(state="queued")],
    "leases_are_of_running_runs": [run_is(owner="a zombie"), run_is(lease_until=NOW), run_is(state="running")],
    "ended_runs_have_no_open_nodes": [node_is(state="running"), item_is()],
    "states_of_nodes_fit_their_fields": [node_is(finished_at=None), node_is(wake_at=LATER), node_is(state="waiting")],
    "states_of_items_fit_their_fields": [item_is(), item_is(state="skipped", output=1), item_is(state="waiting")],
    "rounds_have_attempts": [node_is(round=0), node_is(round=3)],
    "rounds_never_go_back": [an_event(data={"attempt": 0})],
    "who_waits_has_a_reason": [run_is(state="waiting"), run_is(state="paused")],
    "what_has_come_is_not_waited_for": [
        run_is(state="waiting", cancel_requested_at=NOW, wake_at=LATER),
        a_signal_is_slept_through,
    ],
    "ended_parents_have_no_live_children": [an_orphan],
    "node_tasks_are_of_running_runs": [a_task],
    "slots_are_of_runs_that_go_on": [a_slot(), a_slot(held=False), a_slot_of("running", run_epoch=6)],
    "no_more_slots_are_held_than_there_are": [a_slot_of("running", limit=0)],
    "nobody_waits_for_a_slot_that_is_free": [a_slot_of("running", held=False, run_epoch=7)],
    "what_belongs_together_is_of_one_tenant": [somebody_elses_log],
    "stored_bytes_are_those_of_rows": [more_bytes],
    "runs_per_day_are_those_of_rows": [fewer_runs],
    "no_more_runs_than_a_tenant_may_have": [a_limit_of_none],
    "the_audit_is_whole": [the_audit_has_a_hole, the_audit_has_no_head],
}


def test_what_must_not_be_is_found(tenant, registry, drain):
    register(registry, "act", lambda ctx: 1)
    run = ended_by(drain, make_run(tenant, GRAPH))
    assert [invariants.violations(), set(WRONGS)] == [[], set(invariants.INVARIANTS)]
    for name, changes in WRONGS.items():
        for number, change in enumerate(changes):
            with transaction.atomic():
                change(run)
                found = {what.partition(":")[0] for what in invariants.violations()}
                assert name in found, (name, number, found)
                transaction.set_rollback(True)
    assert invariants.violations() == []


def test_a_mark_names_what_is_broken_and_why(request):
    node = request.node
    node.add_marker(pytest.mark.breaks_invariant("the_audit_is_whole", reason="it is cut"))
    assert invariants.broken_by(node) == {"the_audit_is_whole"}
    node.add_marker(pytest.mark.breaks_invariant("something_else", reason="it is cut"))
    with pytest.raises(pytest.UsageError, match="has names of invariants, and a reason"):
        invariants.broken_by(node)
    node.own_markers.clear()


def ended_by(drain: Callable[[], None], run: Run) -> Run:
    drain()
    return ended(run, "succeeded")
