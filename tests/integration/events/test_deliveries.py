"""Deliveries where things meet: two senders, a slow endpoint beside a fast one, crashes in between, two tenants."""

import json
import threading
import time
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from events.models import Delivery, DeliveryAttempt, WebhookEndpoint
from events.webhooks import advancing, sending
from events.webhooks.advancing import advance, advance_endpoints, tenants_with_endpoints
from events.webhooks.endpoints import find_endpoint, pause_endpoint, resume_endpoint, update_endpoint
from events.webhooks.retention import prune_deliveries
from events.webhooks.schedule import GIVE_UP_AFTER
from events.webhooks.sending import AT_ONCE, FAILING_AT_ONCE, LEASE, next_due_at, record_attempts, send, take_due
from runs.models import EventRecord
from runs.storage import log
from tenants.models import AuditEntry, Tenant
from tests.integration.events.conftest import Clock
from tests.support.at_once import at_once
from tests.support.factories.rows import a_test, make_run, make_tenant
from tests.support.factories.webhooks import advance_all, deliver, make_endpoint, send_all
from tests.support.servers.receiver import Receiver, receiving

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def emit(tenant: Tenant, count: int = 1, type: str = "order.paid", **data: object) -> list[EventRecord]:
    """Append events to the log of a tenant."""
    at = advancing.timezone.now()
    return [log.append_outside(tenant_id=tenant.pk, type=type, at=at, data=data) for _ in range(count)]


def states(tenant: Tenant) -> list[str]:
    """The states of a tenant's deliveries, oldest first."""
    return list(Delivery.objects.for_tenant(tenant).order_by("id").values_list("state", flat=True))


def stored(endpoint: WebhookEndpoint) -> WebhookEndpoint:
    """An endpoint as it is stored."""
    return find_endpoint(tenant_id=endpoint.tenant_id, webhook_id=endpoint.pk)


# Reading the log.


def test_no_endpoint_costs_one_question(tenant: Tenant):
    emit(tenant, 3)
    with CaptureQueriesContext(connection) as asked:
        assert tenants_with_endpoints() == set()
    assert len(asked) == 1
    row, _ = make_endpoint(tenant)
    pause_endpoint(by=a_test(tenant), endpoint=row)
    assert tenants_with_endpoints() == set()


def test_idle_endpoints_cost_a_fixed_number_of_questions(tenant: Tenant):
    def questions() -> int:
        with CaptureQueriesContext(connection) as asked:
            assert not advance_endpoints()
            assert take_due(100) == []
            assert next_due_at() is None
        return len(asked)

    make_endpoint(tenant)
    few = questions()
    for _ in range(10):
        make_endpoint(make_tenant())
    assert questions() == few


def test_an_endpoint_gets_the_events_of_its_tenant_that_it_wants_from_its_creation_on(tenant: Tenant):
    emit(tenant, type="before.it")
    types, _ = make_endpoint(tenant, types=["order.*"])
    workflows, _ = make_endpoint(tenant, workflows=["hello"])
    labels, _ = make_endpoint(tenant, labels={"team": "tests"})
    everything, _ = make_endpoint(tenant)
    theirs, _ = make_endpoint(make_tenant())
    emit(tenant, type="order.paid")
    make_run(tenant)
    advance_all()

    def types_of(endpoint: WebhookEndpoint) -> list[str]:
        rows = Delivery.objects.across_tenants().filter(endpoint=endpoint).order_by("id")
        return list(rows.values_list("event_type", flat=True))

    of_run, of_workflow = ["run.queued"], ["workflow.created", "workflow.published"]
    assert types_of(types) == ["order.paid"]
    assert types_of(workflows) == of_workflow + of_run
    assert types_of(labels) == of_run
    assert types_of(everything) == ["order.paid", *of_workflow, *of_run]
    assert types_of(theirs) == []


def test_a_killed_reader_makes_no_delivery_twice_and_misses_none(tenant: Tenant, monkeypatch):
    row, _ = make_endpoint(tenant)
    events = emit(tenant, 5)
    save = WebhookEndpoint.save

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(WebhookEndpoint, "save", die)
    with pytest.raises(KeyboardInterrupt):
        advance(row.pk, limit=2)
    assert states(tenant) == []
    monkeypatch.setattr(WebhookEndpoint, "save", save)
    while advance(row.pk, limit=2):
        pass
    delivered = Delivery.objects.for_tenant(tenant).order_by("id").values_list("event_id", flat=True)
    assert list(delivered) == [event.pk for event in events]


def test_two_readers_at_once_make_each_delivery_once(tenant: Tenant):
    row, _ = make_endpoint(tenant)
    emit(tenant, 30)

    def read_all() -> None:
        for _ in range(20):
            advance(row.pk, limit=4)

    at_once(*[read_all] * 3)
    advance_all()
    assert len(states(tenant)) == 30


@pytest.mark.fleet
def test_an_event_whose_transaction_commits_late_is_not_passed(tenant: Tenant):
    row, _ = make_endpoint(tenant)
    began, go_on = threading.Event(), threading.Event()

    def late() -> None:
        with transaction.atomic():
            emit(tenant, type="late.one")
            began.set()
            go_on.wait()
        connection.close()

    thread = threading.Thread(target=late)
    thread.start()
    began.wait()
    emit(tenant, type="early.one")
    advance_all()
    assert states(tenant) == []
    go_on.set()
    thread.join()
    advance_all()
    assert sorted(Delivery.objects.for_tenant(tenant).values_list("event_type", flat=True)) == ["early.one", "late.one"]
    assert stored(row).missed_at is None


def test_what_happens_while_it_is_paused_is_sent_afterwards_or_skipped(tenant: Tenant, receiver: Receiver):
    by = a_test(tenant)
    one, _ = make_endpoint(tenant, receiver.url)
    other, _ = make_endpoint(tenant, receiver.url)
    for row in (one, other):
        pause_endpoint(by=by, endpoint=row)
    emit(tenant, 3)
    assert deliver() == []
    resume_endpoint(by=by, endpoint=stored(one))
    resume_endpoint(by=by, endpoint=stored(other), skip=True)
    emit(tenant)
    while deliver():
        pass
    counts = [Delivery.objects.for_tenant(tenant).filter(endpoint=row).count() for row in (one, other)]
    assert counts == [4, 1]


def test_events_that_were_removed_before_they_were_read_are_noted(tenant: Tenant):
    row, _ = make_endpoint(tenant)
    pause_endpoint(by=a_test(tenant), endpoint=row)
    run = make_run(tenant)
    events = EventRecord.objects.for_tenant(tenant).filter(run=run)
    log.remember_removal(tenant.pk, events)
    type(run).objects.for_tenant(tenant).filter(pk=run.pk).delete()
    emit(tenant)
    resume_endpoint(by=a_test(tenant), endpoint=stored(row))
    advance_all()
    assert stored(row).missed_at is not None
    left = list(Delivery.objects.for_tenant(tenant).order_by("id").values_list("event_type", flat=True))
    assert left == ["workflow.created", "workflow.published", "order.paid"]
    assert AuditEntry.objects.for_tenant(tenant).filter(action="webhook.events_missed").count() == 1


def test_a_suspended_tenant_is_sent_nothing(tenant: Tenant, receiver: Receiver):
    make_endpoint(tenant, receiver.url)
    emit(tenant)
    advance_all()
    tenant.suspend()
    emit(tenant)
    assert deliver() == []
    tenant.resume()
    while deliver():
        pass
    assert states(tenant) == ["delivered"] * 2


# Sending.


def test_two_senders_at_once_send_each_delivery_once(tenant: Tenant, receiver: Receiver):
    make_endpoint(tenant, receiver.url)
    emit(tenant, 20)
    advance_all()

    def send_some() -> None:
        for _ in range(8):
            send_all(take_due(3))

    at_once(*[send_some] * 3)
    while deliver():
        pass
    assert states(tenant) == ["delivered"] * 20
    assert len(receiver.received) == 20
    assert len({item.id for item in receiver.received}) == 20


def test_a_slow_endpoint_delays_no_other(tenant: Tenant, receiver: Receiver):
    """A hundred deliveries to it take as many of the sender's places as one endpoint may have."""
    with receiving() as slow:
        slow.open.clear()
        make_endpoint(tenant, slow.url)
        emit(tenant, 100)
        advance_all()
        held = take_due(20)
        assert len(held) == AT_ONCE
        fast, _ = make_endpoint(make_tenant(), receiver.url)
        emit(fast.tenant, 3)
        advance_all()
        taken = take_due(20 - len(held))
        assert {item.delivery.endpoint_id for item in taken} == {fast.pk}
        send_all(taken)
        assert len(receiver.received) == 3
        assert take_due(20) == []


def test_a_failing_endpoint_has_one_request_at_a_time(tenant: Tenant, receiver: Receiver, clock: Clock):
    row, _ = make_endpoint(tenant, receiver.url)
    receiver.statuses = [503]
    emit(tenant, 5)
    deliver()
    assert stored(row).failing_since == clock.now
    clock.pass_(timedelta(seconds=10))
    assert len(take_due(100)) == FAILING_AT_ONCE
    clock.pass_(LEASE)
    receiver.statuses = [200]
    deliver()
    assert stored(row).failing_since is None
    assert len(take_due(100)) == 4


def test_endpoints_take_turns(tenant: Tenant):
    many, few = make_endpoint(tenant)[0], make_endpoint(make_tenant())[0]
    emit(tenant, 50)
    emit(few.tenant, 1)
    advance_all()
    both = [item.delivery.endpoint_id for item in take_due(4)]
    assert sorted(both) == sorted([many.pk, many.pk, few.pk])
    emit(few.tenant, 1)
    advance_all()
    one_each = [take_due(1)[0].delivery.endpoint_id for _ in range(2)]
    assert set(one_each) == {many.pk, few.pk}


def test_a_sender_that_was_replaced_records_nothing(tenant: Tenant, receiver: Receiver, clock: Clock):
    make_endpoint(tenant, receiver.url)
    emit(tenant)
    advance_all()
    [frozen] = take_due(1)
    clock.pass_(LEASE + timedelta(seconds=1))
    [outcome] = deliver()
    assert outcome is not None
    assert record_attempts([(frozen, outcome)]) == 0
    assert states(tenant) == ["delivered"]
    assert DeliveryAttempt.objects.for_tenant(tenant).count() == 1


async def test_a_sender_that_was_frozen_before_its_request_sends_none(tenant: Tenant, receiver: Receiver):
    from asgiref.sync import sync_to_async

    await sync_to_async(make_endpoint)(tenant, receiver.url)
    await sync_to_async(emit)(tenant)
    await sync_to_async(advance_all)()
    [taken] = await sync_to_async(take_due)(1)
    assert await send(taken, clock=lambda: time.monotonic() + sending.TRUSTED_SECONDS) is None
    assert receiver.received == []


def test_what_is_redelivered_while_it_is_sent_is_recorded_once(tenant: Tenant, receiver: Receiver):
    from events.webhooks.deliveries import redeliver

    make_endpoint(tenant, receiver.url)
    emit(tenant)
    advance_all()
    [taken] = take_due(1)
    redeliver(by=a_test(tenant), delivery_id=taken.delivery.pk)
    assert take_due(1) == []
    send_all([taken])
    assert states(tenant) == ["delivered"]
    redeliver(by=a_test(tenant), delivery_id=taken.delivery.pk)
    deliver()
    assert [item.id for item in receiver.received] == [taken.delivery.message_id] * 2
    assert list(DeliveryAttempt.objects.for_tenant(tenant).values_list("number", flat=True)) == [1, 2]


# What receivers answer.


def test_410_disables_at_once_and_keeps_what_is_pending(tenant: Tenant, receiver: Receiver, clock: Clock):
    row, _ = make_endpoint(tenant, receiver.url)
    watcher, _ = make_endpoint(tenant, "https://other.example/", types=["webhook.*"])
    receiver.statuses = [410]
    emit(tenant, 3)
    advance_all()
    send_all(take_due(1))
    assert (stored(row).state, stored(row).disabled_reason) == ("disabled", "gone")
    assert states(tenant) == ["pending"] * 3
    advance_all()
    assert {item.delivery.endpoint_id for item in take_due(10)} == {watcher.pk}
    [note] = Delivery.objects.for_tenant(tenant).filter(endpoint=watcher)
    assert json.loads(note.body)["data"] == {
        "webhook": str(row.pk),
        "description": "",
        "reason": "gone",
        "failing_since": clock.now.isoformat(timespec="microseconds").replace("+00:00", "Z"),
    }
    receiver.statuses = [200]
    resume_endpoint(by=a_test(tenant), endpoint=stored(row))
    clock.pass_(timedelta(seconds=10))
    while any(outcome for outcome in deliver()):
        clock.pass_(timedelta(seconds=10))
    paid = Delivery.objects.for_tenant(tenant).filter(endpoint=row, event_type="order.paid")
    assert [delivery.state for delivery in paid] == ["delivered"] * 3


def test_one_success_begins_the_days_of_failure_anew(tenant: Tenant, receiver: Receiver, clock: Clock):
    row, _ = make_endpoint(tenant, receiver.url)
    receiver.statuses = [500]
    emit(tenant)
    deliver()
    clock.pass_(GIVE_UP_AFTER - timedelta(hours=1))
    receiver.statuses = [200, 500]
    emit(tenant)
    advance_all()
    send_all(take_due(1))
    clock.pass_(timedelta(hours=2))
    emit(tenant)
    deliver()
    assert stored(row).state == "active"
    clock.pass_(GIVE_UP_AFTER)
    deliver()
    assert stored(row).state == "disabled"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_a_failure_and_is_not_followed(tenant: Tenant, receiver: Receiver, status: int):
    with receiving() as elsewhere:

        def redirect(handler) -> None:
            handler.send_response(status)
            handler.send_header("Location", elsewhere.url)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        receiver.instead = redirect
        make_endpoint(tenant, receiver.url)
        emit(tenant)
        [outcome] = deliver()
        assert outcome is not None
        assert (outcome.status, outcome.error) == (status, "status")
        assert elsewhere.received == []


def test_an_address_is_refused_when_the_connection_is_made(tenant: Tenant, receiver: Receiver, settings):
    """Whatever the URL was when it was stored: a name may lead elsewhere by now."""
    make_endpoint(tenant, receiver.url.replace("127.0.0.1", "localhost.example"))
    Delivery.objects.for_tenant(tenant).all()
    WebhookEndpoint.objects.for_tenant(tenant).update(url=receiver.url)
    settings.PYFLOW_ALLOWED_NETWORKS = []
    sending.network_policy.cache_clear()
    emit(tenant)
    [outcome] = deliver()
    assert outcome is not None
    assert outcome.error == "address_refused"
    assert receiver.received == []


def test_nobody_at_the_address_is_a_failure(tenant: Tenant, free_port: int):
    make_endpoint(tenant, f"http://127.0.0.1:{free_port}/")
    emit(tenant)
    [outcome] = deliver()
    assert outcome is not None
    assert (outcome.error, outcome.status) == ("connection", None)
    assert states(tenant) == ["pending"]


def test_what_a_receiver_says_is_kept_in_part_and_without_the_secret(tenant: Tenant, receiver: Receiver):
    _, secret = make_endpoint(tenant, receiver.url)
    receiver.answer = f"<{secret}>\0 ".encode() + b"x" * 5000
    emit(tenant)
    deliver()
    [attempt] = DeliveryAttempt.objects.for_tenant(tenant)
    assert secret.removeprefix("whsec_") not in attempt.excerpt
    assert "***" in attempt.excerpt
    assert len(attempt.excerpt) == sending.MAX_EXCERPT


def test_a_secret_that_cannot_be_read_is_a_failure_that_says_so(tenant: Tenant, receiver: Receiver):
    row, _ = make_endpoint(tenant, receiver.url)
    row.secrets.model.destroy(row.secrets.model.objects.for_tenant(tenant))
    emit(tenant)
    [outcome] = deliver()
    assert outcome is not None
    assert outcome.error == "secret_unreadable"
    assert receiver.received == []


def test_a_changed_url_is_where_pending_deliveries_go(tenant: Tenant, receiver: Receiver, free_port: int):
    row, _ = make_endpoint(tenant, f"http://127.0.0.1:{free_port}/")
    emit(tenant)
    advance_all()
    update_endpoint(by=a_test(tenant), endpoint=row, changes={"url": receiver.url})
    deliver()
    assert states(tenant) == ["delivered"]


def test_finished_deliveries_are_removed_after_a_month(tenant: Tenant, receiver: Receiver, clock: Clock):
    make_endpoint(tenant, receiver.url)
    emit(tenant, 2)
    deliver()
    clock.pass_(timedelta(days=29))
    emit(tenant)
    assert prune_deliveries() == 0
    clock.pass_(timedelta(days=2))
    advance_all()
    assert prune_deliveries() == 2
    assert states(tenant) == ["pending"]
