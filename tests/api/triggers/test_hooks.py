"""`/api/v1/hooks`: inbound webhooks and what came to them."""

import pytest

from pyflow.core.ids import new_id
from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.hooks import deliver, hook, make_hook, with_triggers
from tests.support.factories.rows import make_workflow
from triggers.models import InboundHook

OPERATIONS = ("hooks_list", "hooks_read", "hook_deliveries_list")
pytestmark = [pytest.mark.django_db, pytest.mark.api]
PATH = "/api/v1/hooks"
NONE = "{scheme: none}"


@pytest.fixture
def row(tenant) -> InboundHook:
    make_hook(tenant, NONE, path="orders/new", rest="answer: wait, rate_limit: 5")
    return InboundHook.objects.for_tenant(tenant).get()


def paths(id: object) -> list[str]:
    return [f"{PATH}/{id}", f"{PATH}/{id}/deliveries"]


def test_a_webhook_is_shown_with_its_url(api: Api, tenant, row):
    shown = read(api.get(f"{PATH}/{row.pk}"))
    assert shown.pop("created_at")
    assert shown == {
        "id": str(row.pk),
        "url": f"http://testserver/hooks/{tenant.slug}/orders/new",
        "path": "orders/new",
        "workflow": "flow",
        "version": 1,
        "trigger": "hook",
        "scheme": "none",
        "methods": ["POST"],
        "answer": "wait",
        "rate_limit": 5,
        "refused": 0,
        "refused_at": None,
        "delivered_at": None,
    }
    assert read(api.get(PATH))["results"] == [read(api.get(f"{PATH}/{row.pk}"))]


def test_they_are_listed_by_path_and_filtered_by_workflow(api: Api, tenant):
    make_workflow(tenant, with_triggers(hook(NONE, path="b"), hook(NONE, path="a", id="second")))
    make_workflow(tenant, with_triggers(hook(NONE, path="c"), name="other"))
    first = read(api.get(f"{PATH}?limit=2"))
    assert [item["path"] for item in first["results"]] == ["a", "b"]
    assert [item["path"] for item in read(api.get(first["next"]))["results"]] == ["c"]
    assert [item["path"] for item in read(api.get(f"{PATH}?workflow=other"))["results"]] == ["c"]
    assert_problem(api.get(f"{PATH}?worflow=other"), 422, "input_invalid")


def test_deliveries_say_what_became_of_each(api: Api, tenant):
    make_hook(tenant, NONE)
    row = InboundHook.objects.for_tenant(tenant).get()
    run_id = read(deliver(tenant, {"a": 1}, {"Idempotency-Key": "k"}))["run_id"]
    deliver(tenant, [1])
    failed, accepted = read(api.get(f"{PATH}/{row.pk}/deliveries"))["results"]
    assert (accepted["outcome"], accepted["run_id"], accepted["delivery_id"]) == ("accepted", run_id, "k")
    assert (accepted["excerpt"], accepted["size"], accepted["error"]) == ('{"a": 1}', 8, None)
    assert (failed["outcome"], failed["run_id"], failed["error"]["code"]) == ("failed", None, "hook_input_invalid")
    assert read(api.get(f"{PATH}/{row.pk}"))["delivered_at"] == failed["received_at"]
    assert read(api.get(f"{PATH}/{row.pk}/deliveries?outcome=accepted"))["results"] == [accepted]


def test_what_was_seen_is_not_sent_again(api: Api, row):
    first = api.get(f"{PATH}/{row.pk}")
    again = api.get(f"{PATH}/{row.pk}", if_none_match=first.headers["ETag"])
    assert (again.status_code, again.content) == (304, b"")


def test_one_that_does_not_exist_is_a_problem(api: Api, db):
    for path in paths(new_id()):
        assert_problem(api.get(path), 404, "inbound_hook_not_found")


def test_it_hides_other_tenants(other_api: Api, row):
    assert read(other_api.get(PATH))["results"] == []
    unknown = new_id()
    for path in paths(row.pk):
        assert_same_answer(other_api.get(path), other_api.get(path.replace(str(row.pk), unknown)))


def test_it_needs_a_key(nobody: Api, row):
    for path in (PATH, *paths(row.pk)):
        assert_problem(nobody.get(path), 401, "not_authenticated")


def test_it_asks_a_fixed_number_of_questions(api: Api, tenant, row, django_assert_num_queries):
    make_workflow(tenant, with_triggers(hook(NONE, path="c"), name="other"))
    for path, count in zip((PATH, *paths(row.pk)), (1, 1, 2), strict=True):
        api.get(path)
        with django_assert_num_queries(count):
            api.get(path)
