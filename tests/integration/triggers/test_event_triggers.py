"""Event triggers: one run for each trigger and event, whatever fails or crashes, and none for what is passed over."""

import threading
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from events.webhooks.endpoints import disable
from pyflow.triggers.events import MAX_DEPTH
from runs.models import EventRecord, Run
from runs.services.start import Start, start_run
from runs.storage import log
from runs.storage.log import append_outside, remember_removal
from tenants.plans import Quota
from tenants.quotas import set_plan
from tests.support.factories.hooks import with_triggers
from tests.support.factories.rows import a_test, make_run, make_tenant, make_workflow
from tests.support.factories.webhooks import make_endpoint
from tests.support.log import readable
from triggers.errors import FailureResolvedError
from triggers.models import EventTrigger, Expectation, TriggerFailure
from triggers.services.events import advance as events
from triggers.services.events import starting
from triggers.services.events.advance import advance, advance_due, retry_failure
from triggers.services.events.starting import Slot, depth_of, depths_of
from workflows.services import archive_workflow

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


def on(types="order.paid", rest="", id="on"):
    return f"{{id: {id}, type: event, config: {{on: {types}{', ' if rest else ''}{rest}}}}}"


def listen(tenant, types="order.paid", rest="", name="flow", **options):
    """A workflow that an event starts."""
    return make_workflow(tenant, with_triggers(on(types, rest), name=name, **options))


def emit(tenant, type="order.paid", at=None, key=None, **data):
    event = append_outside(tenant_id=tenant.pk, type=type, at=at or timezone.now(), data=data, key=key)
    readable([event])
    return event


def started(tenant, name="flow"):
    return list(Run.objects.for_tenant(tenant).filter(trigger="event", workflow__name=name).order_by("created_at"))


def failures(tenant):
    return TriggerFailure.objects.for_tenant(tenant)


def test_an_event_starts_one_run_with_the_event_as_input(tenant):
    listen(tenant)
    event = emit(tenant, total=5)
    emit(tenant, "order.lost")
    for _ in range(3):
        advance_due()
    [run] = started(tenant)
    given = run.input["event"]
    assert (given["id"], given["type"], given["data"]) == (str(event.pk), "order.paid", {"total": 5})
    fired = EventRecord.objects.for_tenant(tenant).get(type="trigger.fired")
    expected = {"trigger": "on", "kind": "event", "run_id": str(run.pk), "event_type": "order.paid", "depth": 1}
    assert fired.data == expected | {"event_id": str(event.pk)}


def test_an_endpoint_that_is_disabled_starts_a_run(tenant):
    """So that its owners can be told: the platform itself sends no mail."""
    listen(tenant, "webhook.disabled")
    endpoint, _ = make_endpoint(tenant, description="orders")
    other, _ = make_endpoint(make_tenant())
    for each in (other, endpoint):
        disable(each, "failing")
    advance_due()
    [run] = started(tenant)
    told = run.input["event"]["data"]
    assert (told["webhook"], told["description"], told["reason"]) == (str(endpoint.pk), "orders", "failing")


def test_events_from_before_the_publication_start_nothing(tenant):
    emit(tenant)
    listen(tenant)
    advance_due()
    assert started(tenant) == []
    emit(tenant)
    advance_due()
    assert len(started(tenant)) == 1


def test_events_of_runs_of_another_workflow(tenant, drain):
    make_workflow(tenant, "version: 2\nname: orders\nnodes: [{id: a, type: log, config: {message: hi}}]\n")
    listen(
        tenant,
        "run.succeeded",
        "workflow: orders, when: \"trigger.event.data.state == 'succeeded'\","
        " input: {order: '{{ trigger.event.run_id }}'}",
    )
    listen(tenant, "run.failed", "workflow: orders", name="never")
    run = make_run(tenant, "version: 2\nname: orders\nnodes: [{id: a, type: log, config: {message: hi}}]\n")
    other = make_run(tenant, "version: 2\nname: others\nnodes: [{id: a, type: log, config: {message: hi}}]\n")
    drain()
    assert Run.objects.for_tenant(tenant).get(pk=other.pk).state == "succeeded"
    advance_due()
    [child] = started(tenant)
    assert child.input == {"order": str(run.pk)}
    assert started(tenant, "never") == []


def test_a_filter_and_a_key_choose(tenant):
    listen(tenant, rest="when: 'trigger.event.data.total > 10', key: '{{ trigger.event.data.order }}'")
    for order, total in (("a", 5), ("a", 20), ("a", 30), ("b", 20)):
        emit(tenant, order=order, total=total)
    advance_due()
    assert [run.input["event"]["data"] for run in started(tenant)] == [
        {"order": "a", "total": 20},
        {"order": "b", "total": 20},
    ]


def test_another_tenants_events_start_nothing(tenant):
    other = make_tenant()
    listen(tenant)
    listen(other)
    emit(other)
    advance_due()
    assert started(tenant) == []
    assert len(started(other)) == 1


def test_triggers_run_the_version_that_is_published_now_and_keep_their_cursor(tenant):
    listen(tenant)
    emit(tenant, n=1)
    listen(tenant, rest="input: {n: '{{ trigger.event.data.n }}'}")
    advance_due()
    [run] = started(tenant)
    assert (run.version.number, run.input) == (2, {"n": 1})
    archive_workflow(by=a_test(tenant), name="flow", archived=True)
    emit(tenant, n=2)
    advance_due()
    assert len(started(tenant)) == 1
    assert not EventTrigger.objects.for_tenant(tenant).exists()


@pytest.mark.parametrize(
    ("target", "name"), [(starting, "start_triggered"), (log, "append_all_outside"), (EventTrigger, "save")]
)
def test_a_crash_at_any_point_starts_each_run_once(tenant, monkeypatch, target, name):
    listen(tenant)
    for n in range(5):
        emit(tenant, n=n)
    whole = getattr(target, name)

    class CrashError(BaseException):
        """The process is gone."""

    def crash(*args, **options):
        whole(*args, **options)
        raise CrashError

    with monkeypatch.context() as patch:
        patch.setattr(target, name, crash)
        with pytest.raises(CrashError):
            advance_due()
    assert started(tenant) == [], "nothing of the transaction is kept"
    advance_due()
    assert [run.input["event"]["data"]["n"] for run in started(tenant)] == list(range(5))


def test_two_tickers_at_once_start_each_run_once(tenant):
    listen(tenant)
    for n in range(20):
        emit(tenant, n=n)

    def tick():
        try:
            advance_due()
        finally:
            connections.close_all()

    threads = [threading.Thread(target=tick) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    advance_due()
    assert sorted(run.input["event"]["data"]["n"] for run in started(tenant)) == list(range(20))


def test_more_events_than_one_transaction_handles(tenant, monkeypatch):
    monkeypatch.setattr(events, "BATCH", 3)
    listen(tenant)
    with transaction.atomic():  # all at one position of the log
        for n in range(8):
            emit(tenant, n=n)
    advance_due()
    assert sorted(run.input["event"]["data"]["n"] for run in started(tenant)) == list(range(8))


def test_a_failure_is_kept_and_stops_neither_other_events_nor_other_triggers(tenant):
    listen(tenant, rest="input: {n: '{{ trigger.event.data.n }}'}")
    listen(tenant, rest="when: 'trigger.event.data.n > 0'", name="second")
    for data in ({"n": 1}, {}, {"n": 3}):
        emit(tenant, **data)
    advance_due()
    assert [run.input for run in started(tenant)] == [{"n": 1}, {"n": 3}]
    assert len(started(tenant, "second")) == 2
    found = {row.trigger.workflow.name: row for row in failures(tenant).select_related("trigger__workflow")}
    assert found.keys() == {"flow", "second"}
    failure = found["flow"]
    assert (failure.error["code"], failure.state, failure.attempts) == ("trigger_input_invalid", "waiting", 1)
    assert "trigger.event.data.n" in failure.error["message"]


def test_a_failure_is_tried_again_by_itself_until_it_is_given_up_or_resolved(tenant):
    listen(tenant, rest="input: {n: '{{ trigger.event.data.n }}'}")
    emit(tenant)
    emit(tenant)
    now = timezone.now()
    advance_due(now=now)
    for attempt, pause in enumerate(events.RETRY_SECONDS, 1):
        row = failures(tenant).first()
        assert (row.attempts, row.state) == (attempt, "waiting")
        advance_due(now=now + timedelta(seconds=pause - 1))
        now += timedelta(seconds=pause)
        advance_due(now=now)
    assert set(failures(tenant).values_list("state", "due_at")) == {("dead", None)}
    listen(tenant, rest="input: {n: 0}")
    row = retry_failure(failures(tenant).select_related("trigger__workflow").first())
    assert (row.state, row.run_id) == ("resolved", started(tenant)[0].pk)
    with pytest.raises(FailureResolvedError):
        retry_failure(row)


def test_a_quota_that_is_used_up_delays_the_runs_and_loses_none(tenant):
    listen(tenant)
    set_plan(tenant=tenant, plan="enterprise", overrides={Quota.RUNS_PER_DAY.value: 1}, by=a_test(tenant))
    emit(tenant, n=1)
    emit(tenant, n=2)
    now = timezone.now()
    advance_due(now=now)
    assert len(started(tenant)) == 1
    assert failures(tenant).get().error["code"] == "quota_exceeded"
    set_plan(tenant=tenant, plan="enterprise", overrides={}, by=a_test(tenant))
    advance_due(now=now + timedelta(seconds=11))
    assert [run.input["event"]["data"]["n"] for run in started(tenant)] == [1, 2]
    assert failures(tenant).get().state == "resolved"


def test_a_mistake_of_ours_that_one_event_meets_is_kept_and_stops_no_other_event(tenant, monkeypatch):
    listen(tenant)
    for n in range(4):
        emit(tenant, n=n)
    whole = starting.start_triggered

    def fail(*, starts, **rest):
        1 / min(abs(start.input["event"]["data"]["n"] - 2) for _, _, start in starts)
        return whole(starts=starts, **rest)

    monkeypatch.setattr(starting, "start_triggered", fail)
    advance_due()
    assert [run.input["event"]["data"]["n"] for run in started(tenant)] == [0, 1, 3]
    row = failures(tenant).get()
    assert (row.error["code"], row.facts["event"]["data"]["n"]) == ("internal_error", 2)
    assert "division" not in row.error["message"]


@pytest.mark.parametrize("quota", [None, 7])
def test_the_number_of_statements_does_not_depend_on_how_many_events_start_runs(tenant, quota):
    """Neither where they are refused."""
    listen(tenant, rest="input: {n: '{{ trigger.event.data.n }}'}")
    plan = {} if quota is None else {Quota.RUNS_PER_DAY.value: quota}
    set_plan(tenant=tenant, plan="enterprise", overrides=plan, by=a_test(tenant))
    numbers, taken = iter(range(1000)), []
    for count in (1, 5, 60):
        for _ in range(count):
            emit(tenant, n=next(numbers))
        with CaptureQueriesContext(connection) as captured:
            advance_due()
        taken.append(len(captured))
    runs = started(tenant)
    assert [run.input["n"] for run in runs] == list(range(quota or 66))
    assert failures(tenant).count() == 66 - len(runs)
    fired = EventRecord.objects.for_tenant(tenant).filter(type="trigger.fired").order_by("id")
    assert [event.data["run_id"] for event in fired] == [str(run.pk) for run in runs]
    assert taken[2] <= taken[1] + 12, (
        "SQLite takes so many parameters in one, and what does not fit is stored by halves"
    )
    assert taken[1] <= 30


def test_events_of_one_moment_that_share_a_key_start_one_run(tenant):
    listen(tenant, rest="key: '{{ trigger.event.data.order }}'")
    for n in range(6):
        emit(tenant, order="ab"[n % 2])
    advance_due()
    assert [run.input["event"]["data"]["order"] for run in started(tenant)] == ["a", "b"]
    assert EventRecord.objects.for_tenant(tenant).filter(type="trigger.fired").count() == 2
    assert not failures(tenant).exists()


def test_workflows_that_start_each_other_end_with_an_error(tenant, drain):
    for name, other in (("ping", "pong"), ("pong", "ping")):
        listen(tenant, "run.succeeded", f"workflow: {other}", name=name)
    start_run(by=a_test(tenant), workflow_name="ping", start=Start())
    for _ in range(MAX_DEPTH + 4):
        drain()
        advance_due()
    assert len(started(tenant, "ping")) + len(started(tenant, "pong")) == MAX_DEPTH
    row = failures(tenant).get()
    assert (row.error["code"], row.state, row.depth) == ("event_loop", "dead", MAX_DEPTH)


def test_a_child_run_passes_the_depth_on(tenant):
    listen(tenant)
    event = emit(tenant)
    advance_due()
    [run] = started(tenant)
    child = make_run(tenant)
    Run.objects.for_tenant(tenant).filter(pk=child.pk).update(parent=run)
    mine = EventRecord.objects.for_tenant(tenant).filter(run=child).first()
    assert [depth_of(each) for each in (event, mine)] == [0, 1]
    assert depths_of([Slot("one", {}, event), Slot("two", {}, 5), Slot("three", {}, mine)]) == [0, 5, 1]


def test_without_triggers_a_tick_is_two_queries_and_idle_triggers_cost_none(tenant):
    emit(tenant)

    def asked():
        with CaptureQueriesContext(connection) as context:
            advance_due()
        return len(context.captured_queries)

    before = asked()
    assert before <= 4
    for n in range(5):
        listen(tenant, name=f"flow-{n}")
    advance_due()
    assert asked() == before


def test_events_that_were_removed_unread_are_a_failure_and_the_trigger_goes_on(tenant):
    listen(tenant)
    emit(tenant, n=1)
    rows = EventRecord.objects.for_tenant(tenant)
    remember_removal(tenant.pk, rows)
    rows.delete()
    emit(tenant, n=2)
    advance_due()
    assert [run.input["event"]["data"]["n"] for run in started(tenant)] == [2]
    row = failures(tenant).get()
    assert (row.error["code"], row.state) == ("events_removed", "dead")


def test_a_suspended_tenant_starts_nothing_and_catches_up_later(tenant):
    listen(tenant)
    emit(tenant)
    tenant.suspended_at = timezone.now()
    tenant.save()
    advance_due()
    assert started(tenant) == []
    tenant.suspended_at = None
    tenant.save()
    advance_due()
    assert len(started(tenant)) == 1


# --- absence -----------------------------------------------------------------------------------------------------

WITHIN = "expect: {within: 10m}"
MINUTE = timedelta(minutes=1)


def expected(tenant):
    return Expectation.objects.for_tenant(tenant).count()


def test_an_event_that_does_not_come_in_time_starts_a_run_once(tenant):
    listen(tenant, "order.paid", "after: order.placed, expect: {within: 10m, key: '{{ trigger.event.data.order }}'}")
    now = timezone.now()
    for order in ("a", "b"):
        emit(tenant, "order.placed", at=now, order=order)
    emit(tenant, at=now + MINUTE, order="b")
    advance_due(now=now + 9 * MINUTE)
    assert (started(tenant), expected(tenant)) == ([], 1)
    for _ in range(2):
        advance_due(now=now + 11 * MINUTE)
    [run] = started(tenant)
    assert run.input["event"]["data"] == {"order": "a"}
    assert run.input["absent"]["on"] == ["order.paid"]
    assert expected(tenant) == 0


def test_what_comes_too_late_has_not_come(tenant):
    listen(tenant, "order.paid", f"after: order.placed, {WITHIN}")
    now = timezone.now()
    emit(tenant, "order.placed", at=now)
    emit(tenant, at=now + 11 * MINUTE)
    advance_due(now=now + 60 * MINUTE)  # nobody looked for an hour
    assert len(started(tenant)) == 1


def test_what_came_in_time_counts_although_nobody_looked(tenant):
    listen(tenant, "order.paid", f"after: order.placed, {WITHIN}")
    now = timezone.now()
    emit(tenant, "order.placed", at=now)
    emit(tenant, at=now + 9 * MINUTE)
    advance_due(now=now + 60 * MINUTE)
    assert (started(tenant), expected(tenant)) == ([], 0)


def test_a_heartbeat_is_expected_from_the_publication_on_and_after_each_beat(tenant):
    listen(tenant, "beat", WITHIN)
    now = timezone.now()
    emit(tenant, "beat", at=now + 9 * MINUTE)
    advance_due(now=now + 18 * MINUTE)
    assert started(tenant) == []
    advance_due(now=now + 20 * MINUTE)
    assert len(started(tenant)) == 1
    advance_due(now=now + 60 * MINUTE)
    assert len(started(tenant)) == 1, "once, until a beat comes again"
    emit(tenant, "beat", at=now + 60 * MINUTE)
    advance_due(now=now + 71 * MINUTE)
    assert len(started(tenant)) == 2
    listen(tenant, "beat", "", name="silent")
    quiet = timezone.now()
    listen(tenant, "beat", WITHIN, name="quiet")
    advance_due(now=quiet + 11 * MINUTE)
    assert len(started(tenant, "quiet")) == 1


def test_a_crash_while_it_fires_fires_it_once(tenant, monkeypatch):
    listen(tenant, "beat", WITHIN)
    later = timezone.now() + 11 * MINUTE
    whole = Expectation.delete

    def crash(self, *args, **options):
        whole(self, *args, **options)
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(Expectation, "delete", crash)
        with pytest.raises(SystemExit):
            advance_due(now=later)
    assert started(tenant) == []
    advance_due(now=later)
    advance_due(now=later)
    assert len(started(tenant)) == 1


def test_an_absence_whose_run_cannot_start_is_a_failure_of_its_own(tenant):
    listen(tenant, "beat", f"{WITHIN}, input: {{n: '{{{{ trigger.nothing.x }}}}'}}".replace("nothing.x", "absent.x"))
    advance_due(now=timezone.now() + 11 * MINUTE)
    row = failures(tenant).get()
    assert row.slot.startswith("absent:")
    assert expected(tenant) == 0


def test_advance_leaves_a_trigger_alone_that_is_gone():
    assert advance(uuid4()) is False
