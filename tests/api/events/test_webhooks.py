"""`/api/v1/webhooks` and what is below it."""

from datetime import timedelta

import pytest
from django.utils import timezone

from events.models import Delivery, WebhookEndpoint, WebhookSecret
from tenants.access import Role
from tenants.models import AuditEntry
from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import make_api_key
from tests.support.factories.webhooks import WEBHOOKS, make_endpoint

pytestmark = [pytest.mark.django_db, pytest.mark.api]
OPERATIONS = (
    "webhooks_list", "webhooks_create", "webhooks_read", "webhooks_update", "webhooks_delete", "webhooks_rotate",
    "webhooks_test", "webhooks_pause", "webhooks_resume", "webhooks_redeliver",
)  # fmt: skip
NEW = {
    "url": "https://receiver.example/hook?token=t-917",
    "description": "the shop",
    "types": ["run.*", "workflow.published"],
    "workflows": ["orders"],
    "labels": {"team": "commerce"},
}
VERBS = ("rotate", "test", "pause", "resume", "redeliver")
UNKNOWN = "01890000-0000-7000-8000-000000000000"


def test_it_is_created_with_a_secret_that_is_shown_once(api: Api, tenant):
    response = api.post(WEBHOOKS, NEW)
    assert response.status_code == 201
    made = read(response)
    assert made["secret"].startswith("whsec_")
    assert made.items() >= (NEW | {"state": "active", "failing_since": None}).items()
    assert response.headers["Location"].endswith(f"{WEBHOOKS}/{made['id']}")
    [row] = WebhookSecret.objects.for_tenant(tenant)
    assert row.open() == made["secret"]
    assert made["secret"].encode() not in bytes(row.ciphertext)
    for path in (WEBHOOKS, f"{WEBHOOKS}/{made['id']}"):
        assert b"whsec_" not in api.get(path).content


def test_a_repeated_request_creates_one_and_does_not_show_the_secret_again(api: Api, tenant):
    first, second = (read(api.post(WEBHOOKS, NEW, idempotency_key="once")) for _ in range(2))
    assert second == first | {"secret": None}
    assert WebhookEndpoint.objects.for_tenant(tenant).count() == 1


@pytest.mark.parametrize(
    "url",
    [
        "ftp://receiver.example/",
        "receiver.example",
        "https://user:word@receiver.example/",
        "http://localhost/",
        "http://169.254.169.254/latest",
        "http://10.1.2.3/",
        "http://[::1]/",
        "https://receiver.example:6379/",
    ],
)
def test_a_url_that_nothing_is_sent_to_is_refused(api: Api, tenant, url: str):
    body = assert_problem(api.post(WEBHOOKS, {"url": url}), 422, "webhook_url_refused")
    assert body["errors"][0]["pointer"] == "/url"
    assert not WebhookEndpoint.objects.for_tenant(tenant).exists()
    row, _ = make_endpoint(tenant)
    assert_problem(api.send("PATCH", f"{WEBHOOKS}/{row.pk}", {"url": url}, if_match="*"), 422, "webhook_url_refused")


@pytest.mark.parametrize(
    "wrong",
    [
        {"types": ["run..failed"]},
        {"types": ["*"]},
        {"types": ["node.progress"]},
        {"labels": {"": "x"}},
        {"labels": {str(number): "x" for number in range(11)}},
        {"url": ""},
        {"secret": "whsec_mine"},
    ],
)
def test_a_wrong_field_is_refused(api: Api, tenant, wrong: dict):
    assert_problem(api.post(WEBHOOKS, NEW | wrong), 422, "input_invalid")


def test_the_audit_says_where_a_webhook_leads_and_keeps_its_path(api: Api, tenant):
    api.post(WEBHOOKS, NEW)
    entry = AuditEntry.objects.for_tenant(tenant).get(action="webhook.created")
    assert "https://receiver.example/…" in entry.record
    assert "t-917" not in entry.record
    assert "whsec_" not in entry.record


def test_a_plan_has_room_for_so_many(api: Api, tenant):
    type(tenant).objects.filter(pk=tenant.pk).update(plan="free")
    for _ in range(5):
        assert api.post(WEBHOOKS, NEW).status_code == 201
    problem = assert_problem(api.post(WEBHOOKS, NEW), 402, "plan_limit_reached")
    assert (problem["quota"], problem["limit"], problem["used"]) == ("webhook_endpoints", 5, 5)


def test_they_are_listed_in_pages(api: Api, tenant):
    made = [str(make_endpoint(tenant)[0].pk) for _ in range(3)]
    page = read(api.get(f"{WEBHOOKS}?limit=2"))
    rest = read(api.get(page["next"]))
    assert [row["id"] for row in page["results"] + rest["results"]] == made[::-1]


def test_what_was_read_is_what_is_changed(api: Api, tenant):
    row, _ = make_endpoint(tenant)
    path = f"{WEBHOOKS}/{row.pk}"
    tag = api.get(path).headers["ETag"]
    assert api.get(path, if_none_match=tag).status_code == 304
    assert_problem(api.send("PATCH", path, {"types": []}), 428, "precondition_required")
    changed = api.send("PATCH", path, {"types": ["run.failed"]}, if_match=tag)
    assert changed.status_code == 200
    assert read(changed)["types"] == ["run.failed"]
    assert_problem(api.send("PATCH", path, {"types": []}, if_match=tag), 412, "precondition_failed")
    assert_problem(api.send("DELETE", path, if_match=tag), 412, "precondition_failed")
    assert api.send("DELETE", path).status_code == 204
    assert_problem(api.get(path), 404, "webhook_not_found")


def test_a_secret_is_rotated_once_in_the_overlap(api: Api, tenant):
    row, first = make_endpoint(tenant)
    path = f"{WEBHOOKS}/{row.pk}/rotate"
    second = read(api.post(path, {}))["secret"]
    assert second.startswith("whsec_")
    assert second != first
    assert_problem(api.post(path, {}), 409, "webhook_rotation_overlap")
    third = read(api.post(path, {"force": True}))["secret"]
    rows = WebhookSecret.objects.for_tenant(tenant).order_by("id")
    assert [secret.open() for secret in rows] == [second, third]
    assert rows[0].expires_at is not None
    assert rows[1].expires_at is None


def test_it_is_paused_and_resumed(api: Api, tenant):
    row, _ = make_endpoint(tenant)
    path = f"{WEBHOOKS}/{row.pk}"
    for _ in range(2):
        assert read(api.post(f"{path}/pause"))["state"] == "paused"
    assert_problem(api.post(f"{path}/test"), 409, "webhook_inactive")
    for _ in range(2):
        assert read(api.post(f"{path}/resume", {}))["state"] == "active"
    actions = list(AuditEntry.objects.for_tenant(tenant).order_by("seq").values_list("action", flat=True))
    assert actions[-2:] == ["webhook.paused", "webhook.resumed"]


def test_a_test_event_is_a_delivery(api: Api, tenant):
    row, _ = make_endpoint(tenant, types=["run.failed"])
    answer = api.post(f"{WEBHOOKS}/{row.pk}/test")
    assert answer.status_code == 202
    assert answer.headers["Location"].endswith(f"/api/v1/deliveries/{read(answer)['id']}")
    assert read(answer).items() >= {"type": "webhook.test", "state": "pending", "webhook": str(row.pk)}.items()


def test_a_range_is_sent_again(api: Api, tenant):
    row, _ = make_endpoint(tenant)
    now = timezone.now()
    for hours, state in ((1, "exhausted"), (2, "exhausted"), (3, "exhausted"), (2, "delivered")):
        path = f"{WEBHOOKS}/{row.pk}/test"
        made = Delivery.objects.for_tenant(tenant).filter(pk=read(api.post(path))["id"])
        ended = {"state": state, "due_at": None, "finished_at": now, "tries": 10}
        made.update(event_at=now - timedelta(hours=hours), **ended)
    wanted = {
        "since": (now - timedelta(hours=2)).isoformat(),
        "until": (now - timedelta(minutes=30)).isoformat(),
    }
    path = f"{WEBHOOKS}/{row.pk}/redeliver"
    assert read(api.post(path, wanted)) == {"deliveries": 2, "has_more": False}
    assert read(api.post(path, wanted)) == {"deliveries": 0, "has_more": False}
    states = sorted(Delivery.objects.for_tenant(tenant).values_list("state", "tries"))
    assert states == [("delivered", 10), ("exhausted", 10), ("pending", 0), ("pending", 0)]
    assert read(api.post(path, wanted | {"states": ["delivered"]}))["deliveries"] == 1


def test_an_editor_may_look_and_no_more(tenant):
    row, _ = make_endpoint(tenant)
    editor = Api(make_api_key(tenant, role=Role.EDITOR.value)[1])
    viewer = Api(make_api_key(tenant, role=Role.VIEWER.value)[1])
    assert editor.get(f"{WEBHOOKS}/{row.pk}").status_code == 200
    assert_problem(viewer.get(f"{WEBHOOKS}/{row.pk}"), 403, "forbidden")
    assert_problem(editor.post(WEBHOOKS, NEW), 403, "forbidden")


def test_it_hides_other_tenants(api: Api, other_tenant):
    row, _ = make_endpoint(other_tenant)
    assert read(api.get(WEBHOOKS))["results"] == []
    assert_same_answer(api.get(f"{WEBHOOKS}/{row.pk}"), api.get(f"{WEBHOOKS}/{UNKNOWN}"))
    for method, body in (("PATCH", {"types": []}), ("DELETE", None)):
        hidden, missing = (api.send(method, f"{WEBHOOKS}/{pk}", body, if_match="*") for pk in (row.pk, UNKNOWN))
        assert_same_answer(hidden, missing)
    for verb in VERBS:
        hidden, missing = (api.post(f"{WEBHOOKS}/{pk}/{verb}") for pk in (row.pk, UNKNOWN))
        assert hidden.status_code == 404
        assert_same_answer(hidden, missing)


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.get(WEBHOOKS), 401, "not_authenticated")
    assert_problem(nobody.post(WEBHOOKS, NEW), 401, "not_authenticated")
    for method in ("GET", "PATCH", "DELETE"):
        assert_problem(nobody.send(method, f"{WEBHOOKS}/{UNKNOWN}"), 401, "not_authenticated")
    for verb in VERBS:
        assert_problem(nobody.post(f"{WEBHOOKS}/{UNKNOWN}/{verb}"), 401, "not_authenticated")


def test_it_asks_a_fixed_number_of_questions(api: Api, tenant, django_assert_num_queries):
    row, _ = make_endpoint(tenant)
    path = f"{WEBHOOKS}/{row.pk}"
    api.get(WEBHOOKS)
    for send, count in (
        (lambda: api.get(WEBHOOKS), 1),
        (lambda: api.get(path), 1),
        (lambda: api.post(WEBHOOKS, NEW), 7),
        (lambda: api.send("PATCH", path, {"types": []}, if_match="*"), 5),
        (lambda: api.post(f"{path}/rotate", {}), 11),
        (lambda: api.post(f"{path}/test"), 5),
        (lambda: api.post(f"{path}/pause"), 5),
        (lambda: api.post(f"{path}/resume", {}), 5),
        (lambda: api.post(f"{path}/redeliver", {"states": ["pending"]}), 6),
        (lambda: api.send("DELETE", path), 9),
    ):
        with django_assert_num_queries(count):
            assert send().status_code < 300
