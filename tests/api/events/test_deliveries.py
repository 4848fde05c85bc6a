"""`/api/v1/deliveries` and what is below it."""

from datetime import timedelta

import pytest
from django.utils import timezone

from events.models import Delivery, DeliveryAttempt
from events.webhooks.endpoints import pause_endpoint, try_endpoint
from pyflow.core.ids import new_uuid
from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import a_test
from tests.support.factories.webhooks import DELIVERIES, make_endpoint

pytestmark = [pytest.mark.django_db, pytest.mark.api]
OPERATIONS = ("deliveries_list", "deliveries_read", "deliveries_redeliver")
UNKNOWN = "01890000-0000-7000-8000-000000000000"


def make_delivery(tenant, endpoint=None, **values) -> Delivery:
    """A delivery of a test event, changed."""
    row = try_endpoint(by=a_test(tenant), endpoint=endpoint or make_endpoint(tenant)[0])
    Delivery.objects.for_tenant(tenant).filter(pk=row.pk).update(**values)
    row.refresh_from_db()
    return row


def ended(**values) -> dict:
    """What a delivery is after its last attempt."""
    return {"state": "exhausted", "due_at": None, "finished_at": timezone.now(), "tries": 10} | values


def test_they_are_listed_newest_first_and_filtered(api: Api, tenant):
    one, other = make_endpoint(tenant)[0], make_endpoint(tenant)[0]
    run, early = new_uuid(), timezone.now() - timedelta(days=2)
    old = make_delivery(tenant, one, event_type="run.failed", run_id=run, event_at=early, **ended())
    new = make_delivery(tenant, other)
    middle = (timezone.now() - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def listed(query: str) -> list[str]:
        return [row["id"] for row in read(api.get(f"{DELIVERIES}?{query}"))["results"]]

    assert listed("") == [str(new.pk), str(old.pk)]
    only_old = (f"webhook={one.pk}", "state=exhausted", "type=run.failed", f"run={run}", f"until={middle}")
    for query in only_old:
        assert listed(query) == [str(old.pk)], query
    for query in (f"webhook={other.pk}", "state=pending&state=delivered", "type=webhook.test", f"since={middle}"):
        assert listed(query) == [str(new.pk)], query
    assert listed(f"webhook={UNKNOWN}") == []


def test_one_is_read_with_its_body_and_attempts(api: Api, tenant):
    row = make_delivery(tenant, attempts=2, last_status=500, last_error="status")
    for number, status in ((1, None), (2, 500)):
        DeliveryAttempt.objects.create(
            tenant=tenant, delivery=row, number=number, at=timezone.now(), duration_ms=12, status=status,
            error="status" if status else "timeout", excerpt="oh no",
        )  # fmt: skip
    shown = read(api.get(f"{DELIVERIES}/{row.pk}"))
    assert shown["message_id"] == f"msg_{row.event_id.hex}"
    assert shown["body"] == row.body
    assert [(item["number"], item["status"], item["error"]) for item in shown["log"]] == [
        (1, None, "timeout"),
        (2, 500, "status"),
    ]


def test_one_is_sent_again_however_often_that_is_asked(api: Api, tenant):
    row = make_delivery(tenant, **ended())
    path = f"{DELIVERIES}/{row.pk}/redeliver"
    first, second = read(api.post(path)), read(api.post(path))
    assert first["state"] == second["state"] == "pending"
    assert first["message_id"] == second["message_id"]
    assert Delivery.objects.for_tenant(tenant).count() == 1


def test_one_that_is_being_sent_is_left_as_it_is(api: Api, tenant):
    until = timezone.now() + timedelta(seconds=30)
    row = make_delivery(tenant, leased=True, due_at=until, epoch=4, tries=3)
    assert api.post(f"{DELIVERIES}/{row.pk}/redeliver").status_code == 202
    row.refresh_from_db()
    assert (row.leased, row.due_at, row.epoch, row.tries) == (True, until, 4, 3)


def test_one_of_a_paused_endpoint_waits_for_it(api: Api, tenant):
    row = make_delivery(tenant, **ended())
    pause_endpoint(by=a_test(tenant), endpoint=row.endpoint)
    assert read(api.post(f"{DELIVERIES}/{row.pk}/redeliver"))["state"] == "pending"


def test_it_hides_other_tenants(api: Api, other_tenant):
    row = make_delivery(other_tenant)
    assert read(api.get(DELIVERIES))["results"] == []
    assert read(api.get(f"{DELIVERIES}?webhook={row.endpoint_id}"))["results"] == []
    assert_same_answer(api.get(f"{DELIVERIES}/{row.pk}"), api.get(f"{DELIVERIES}/{UNKNOWN}"))
    assert_same_answer(api.post(f"{DELIVERIES}/{row.pk}/redeliver"), api.post(f"{DELIVERIES}/{UNKNOWN}/redeliver"))


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.get(DELIVERIES), 401, "not_authenticated")
    assert_problem(nobody.get(f"{DELIVERIES}/{UNKNOWN}"), 401, "not_authenticated")
    assert_problem(nobody.post(f"{DELIVERIES}/{UNKNOWN}/redeliver"), 401, "not_authenticated")


def test_it_asks_a_fixed_number_of_questions(api: Api, tenant, django_assert_num_queries):
    row = make_delivery(tenant, **ended())
    api.get(DELIVERIES)
    for send, count in (
        (lambda: api.get(DELIVERIES), 1),
        (lambda: api.get(f"{DELIVERIES}/{row.pk}"), 2),
        (lambda: api.post(f"{DELIVERIES}/{row.pk}/redeliver"), 5),
    ):
        with django_assert_num_queries(count):
            assert send().status_code < 300
