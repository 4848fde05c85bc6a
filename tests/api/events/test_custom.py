"""`POST /api/v1/events`: events of applications, also as CloudEvents."""

import pytest

from runs.models import EventRecord
from tests.support.api import Api, assert_problem, read
from tests.support.factories.rows import make_api_key

OPERATION = "events_create"
PATH = "/api/v1/events"
pytestmark = [pytest.mark.api, pytest.mark.django_db]
CLOUD = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
PAID = {"type": "order.paid", "data": {"order": 7}}
CLOUD_PAID = {
    "specversion": "1.0",
    "id": "A1",
    "source": "/shop",
    "type": "com.example.order.paid",
    "subject": "7",
    "time": "2026-11-30T10:00:00+01:00",
    "datacontenttype": "application/json",
    "data": {"order": 7},
    "traceparent": "an extension",
}


def stored(tenant):
    return EventRecord.objects.for_tenant(tenant).filter(run=None).exclude(type__startswith="workflow.")


def test_an_event_is_in_the_log(api: Api, tenant):
    response = api.post(PATH, PAID | {"subject": "7"})
    assert response.status_code == 202, response.content
    [shown] = read(response)["results"]
    assert (shown["type"], shown["data"], shown["run_id"], shown["seq"]) == ("order.paid", {"order": 7}, None, 0)
    assert shown["origin"] == {"id": shown["origin"]["id"], "source": "", "subject": "7"}
    assert stored(tenant).get().pk.hex == shown["id"].replace("-", "")


def test_an_event_that_is_sent_again_is_the_same_event(api: Api, tenant):
    first, again, other, nameless = (
        read(api.post(PATH, PAID | more))["results"][0]["id"]
        for more in ({"id": "1"}, {"id": "1", "data": {}}, {"id": "1", "source": "shop"}, {})
    )
    assert first == again
    assert len({first, other, nameless}) == 3
    assert stored(tenant).count() == 3


def test_two_tenants_may_send_the_same_id(api: Api, other_api: Api):
    body = PAID | {"id": "1"}
    assert read(api.post(PATH, body))["results"][0]["id"] != read(other_api.post(PATH, body))["results"][0]["id"]


def test_a_cloud_event_is_accepted(api: Api, tenant):
    [shown] = read(api.post(PATH, CLOUD_PAID, content_type=f"{CLOUD}; charset=utf-8"))["results"]
    assert (shown["type"], shown["data"]) == ("com.example.order.paid", {"order": 7})
    assert shown["origin"] == {"id": "A1", "source": "/shop", "subject": "7", "time": "2026-11-30T09:00:00.000000Z"}


def test_a_batch_of_cloud_events_is_accepted_as_a_whole_or_not_at_all(api: Api, tenant):
    batch = [CLOUD_PAID, CLOUD_PAID | {"id": "A2"}, CLOUD_PAID]
    results = read(api.post(PATH, batch, content_type=BATCH))["results"]
    assert len({event["id"] for event in results}) == 2
    wrong = [CLOUD_PAID | {"id": "A3"}, CLOUD_PAID | {"type": "run.failed"}]
    assert_problem(api.post(PATH, wrong, content_type=BATCH), 422, "input_invalid")
    assert stored(tenant).count() == 2


@pytest.mark.parametrize(
    "type", ["run.failed", "node.x", "workflow.mine", "trigger.fired", "webhook.x", "", "a b", "ä"]
)
def test_a_type_of_the_platform_or_none_at_all_is_refused(api: Api, tenant, type):
    problem = assert_problem(api.post(PATH, {"type": type}), 422, "input_invalid")
    assert problem["errors"][0]["pointer"] == "/type"
    assert not stored(tenant).exists()


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ({"typ": "a"}, "application/json"),
        ({"type": "a", "data": [1]}, "application/json"),
        ({"type": "a", "data": 5}, "application/json"),
        ({"type": "a", "id": "x" * 257}, "application/json"),
        ([PAID], "application/json"),
        (PAID, CLOUD),
        (CLOUD_PAID | {"specversion": "0.3"}, CLOUD),
        (CLOUD_PAID | {"data_base64": "aGk="}, CLOUD),
        (CLOUD_PAID | {"datacontenttype": "application/xml"}, CLOUD),
        (CLOUD_PAID | {"time": "yesterday"}, CLOUD),
        (CLOUD_PAID, BATCH),
        ([], BATCH),
        ([CLOUD_PAID] * 101, BATCH),
        (["x"], BATCH),
    ],
)
def test_what_is_no_event_is_refused(api: Api, tenant, body, content_type):
    assert_problem(api.post(PATH, body, content_type=content_type), 422, "input_invalid")
    assert not stored(tenant).exists()


def test_data_that_is_too_large_is_refused(api: Api, tenant):
    assert_problem(api.post(PATH, {"type": "a", "data": {"x": "é" * 33_000}}), 413, "event_too_large")
    assert api.post(PATH, {"type": "a", "data": {"x": "é" * 32_000}}).status_code == 202


def test_another_media_type_is_refused(api: Api):
    assert_problem(
        api.post(PATH, "a=1", content_type="application/x-www-form-urlencoded"), 415, "unsupported_media_type"
    )


def test_a_viewer_may_not(tenant):
    assert_problem(Api(make_api_key(tenant, role="viewer")[1]).post(PATH, PAID), 403, "forbidden")


def test_it_hides_other_tenants(api: Api, other_api: Api, tenant, other_tenant):
    other_api.post(PATH, PAID | {"id": "1"})
    api.post(PATH, PAID | {"id": "1"})
    assert stored(tenant).count() == stored(other_tenant).count() == 1


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.post(PATH, PAID), 401, "not_authenticated")


def test_it_asks_a_fixed_number_of_questions(api: Api, django_assert_num_queries):
    api.post(PATH, PAID)
    with django_assert_num_queries(2):
        api.post(PATH, PAID)


@pytest.mark.django_db(transaction=True)
def test_the_log_is_filtered_by_any_type_that_an_event_may_have(api: Api):
    for type in ("shop:order/paid", "shop:order/lost", "com.example.paid"):
        api.post(PATH, {"type": type})
    assert [event["type"] for event in read(api.get(f"{PATH}?type=shop:order/paid"))["results"]] == ["shop:order/paid"]
    assert [event["type"] for event in read(api.get(f"{PATH}?type=com.*"))["results"]] == ["com.example.paid"]
