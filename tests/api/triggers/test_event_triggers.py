"""`/api/v1/event-triggers`: triggers that events fire, and what they could not start."""

import pytest
from django.utils import timezone

from pyflow.core.ids import new_id
from runs.models import Run
from runs.storage.log import append_outside
from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.hooks import with_triggers
from tests.support.factories.rows import make_api_key, make_workflow
from triggers.models import EventTrigger, TriggerFailure
from triggers.services.events.advance import advance_due

OPERATIONS = ("event_triggers_list", "event_triggers_read", "trigger_failures_list", "trigger_failures_retry")
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.api]  # only what is committed can be read
PATH = "/api/v1/event-triggers"
MAPPED = "input: {n: '{{ trigger.event.data.n }}'}"


def listen(tenant, rest=MAPPED, name="flow"):
    trigger = f"{{id: paid, type: event, config: {{on: order.paid, workflow: shop, {rest}}}}}".replace(
        "workflow: shop, ", "" if rest == MAPPED else "workflow: shop, "
    )
    make_workflow(tenant, with_triggers(trigger, name=name))
    return EventTrigger.objects.for_tenant(tenant).get(workflow__name=name)


@pytest.fixture
def failure(tenant) -> TriggerFailure:
    """A failure of an event without ``n``."""
    listen(tenant)
    append_outside(tenant_id=tenant.pk, type="order.paid", at=timezone.now(), data={"total": 5})
    advance_due()
    return TriggerFailure.objects.for_tenant(tenant).get()


def paths(row: TriggerFailure) -> list[str]:
    return [f"{PATH}/{row.trigger_id}", f"{PATH}/{row.trigger_id}/failures"]


def retry(row: TriggerFailure) -> str:
    return f"{PATH}/{row.trigger_id}/failures/{row.pk}/retry"


def test_a_trigger_is_shown_with_what_it_waits_for(api: Api, tenant):
    row = listen(tenant, "expect: {within: 10m}")
    shown = read(api.get(f"{PATH}/{row.pk}"))
    assert shown.pop("created_at")
    assert shown == {
        "id": str(row.pk),
        "workflow": "flow",
        "version": 1,
        "trigger": "paid",
        "on": ["order.paid"],
        "from_workflows": ["shop"],
        "within": 600,
        "open_failures": 0,
        "fired_at": None,
    }
    assert read(api.get(PATH))["results"] == [read(api.get(f"{PATH}/{row.pk}"))]


def test_they_are_filtered_by_workflow(api: Api, tenant):
    listen(tenant)
    listen(tenant, name="other")
    assert [item["workflow"] for item in read(api.get(f"{PATH}?workflow=other"))["results"]] == ["other"]
    assert len(read(api.get(PATH))["results"]) == 2


def test_failures_are_listed_with_their_events(api: Api, failure):
    trigger, failures = (read(api.get(path)) for path in paths(failure))
    assert trigger["open_failures"] == 1
    [shown] = failures["results"]
    assert (shown["event"]["type"], shown["event"]["data"]) == ("order.paid", {"total": 5})
    assert (shown["error"]["code"], shown["attempts"], shown["state"]) == ("trigger_input_invalid", 1, "waiting")
    assert shown["due_at"]
    assert read(api.get(f"{paths(failure)[1]}?state=dead"))["results"] == []


def test_a_failure_is_tried_again_with_the_trigger_of_now(api: Api, tenant, failure):
    shown = read(api.post(retry(failure)))
    assert (shown["state"], shown["attempts"], shown["run_id"]) == ("waiting", 2, None)
    make_workflow(
        tenant,
        with_triggers(
            "{id: paid, type: event, config: {on: order.paid, input: {n: '{{ trigger.event.data.total }}'}}}"
        ),
    )
    shown = read(api.post(retry(failure)))
    run = Run.objects.for_tenant(tenant).get()
    assert (shown["state"], shown["run_id"], run.input) == ("resolved", str(run.pk), {"n": 5})
    assert_problem(api.post(retry(failure)), 409, "trigger_failure_resolved")


def test_what_was_seen_is_not_sent_again(api: Api, tenant):
    path = f"{PATH}/{listen(tenant).pk}"
    assert api.get(path, if_none_match=api.get(path).headers["ETag"]).status_code == 304


def test_what_does_not_exist_is_a_problem(api: Api, failure):
    assert_problem(api.get(f"{PATH}/{new_id()}"), 404, "event_trigger_not_found")
    assert_problem(api.post(f"{PATH}/{failure.trigger_id}/failures/{new_id()}/retry"), 404, "trigger_failure_not_found")


def test_a_viewer_may_not_retry(tenant, failure):
    assert_problem(Api(make_api_key(tenant, role="viewer")[1]).post(retry(failure)), 403, "forbidden")


def test_it_hides_other_tenants(other_api: Api, failure):
    assert read(other_api.get(PATH))["results"] == []
    mine, unknown = str(failure.trigger_id), new_id()
    for path in paths(failure):
        assert_same_answer(other_api.get(path), other_api.get(path.replace(mine, unknown)))
    assert_problem(other_api.post(retry(failure)), 404, "event_trigger_not_found")


def test_it_needs_a_key(nobody: Api, failure):
    for path in (PATH, *paths(failure)):
        assert_problem(nobody.get(path), 401, "not_authenticated")
    assert_problem(nobody.post(retry(failure)), 401, "not_authenticated")


def test_it_asks_a_fixed_number_of_questions(api: Api, failure, django_assert_num_queries):
    for path, count in zip((PATH, *paths(failure)), (1, 1, 2), strict=True):
        api.get(path)
        with django_assert_num_queries(count):
            api.get(path)
    with django_assert_num_queries(4):
        api.post(retry(failure))
