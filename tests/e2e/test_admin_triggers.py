"""The admin's pages of inbound webhooks and event triggers."""

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from runs.storage.log import append_outside
from tests.support.factories.hooks import deliver, make_hook, with_triggers
from tests.support.factories.rows import make_superuser, make_tenant, make_workflow
from triggers.models import EventTrigger, HookDelivery, InboundHook, TriggerFailure
from triggers.services.events.advance import advance_due

pytestmark = [pytest.mark.api, pytest.mark.e2e, pytest.mark.django_db(transaction=True)]
ON = "{id: on, type: event, config: {on: order.paid, input: {n: '{{ trigger.event.data.n }}'}}}"


@pytest.fixture
def root(transactional_db) -> Client:
    client = Client()
    client.force_login(make_superuser())
    return client


@pytest.fixture
def tenant(transactional_db):
    """A tenant with a delivery and a failure."""
    tenant = make_tenant("acme")
    make_hook(tenant, "{scheme: none}")
    deliver(tenant, [1])
    make_workflow(tenant, with_triggers(ON, name="listener"))
    append_outside(tenant_id=tenant.pk, type="order.paid", at=timezone.now(), data={"total": "<b>5</b>"})
    advance_due()
    return tenant


def page(client: Client, model, *args) -> str:
    name = f"admin:triggers_{model._meta.model_name}_{'change' if args else 'changelist'}"
    response = client.get(reverse(name, args=args))
    assert response.status_code == 200
    return response.content.decode()


def test_every_page_shows_what_it_is_about(root, tenant):
    for model, listed, shown in (
        (InboundHook, "acme", "hook_input_invalid"),
        (HookDelivery, "failed", "hook_input_invalid"),
        (EventTrigger, "order.paid", "trigger.event.data.n"),
        (TriggerFailure, "waiting", "trigger_input_invalid"),
    ):
        row = model.objects.for_tenant(tenant).get()
        assert listed in page(root, model)
        text = page(root, model, row.pk)
        assert shown in text
        assert "<b>5</b>" not in text
        assert 'name="_save"' not in text, "they change with the documents of workflows"


def test_a_failure_is_tried_again(root, tenant):
    make_workflow(tenant, with_triggers(ON.replace("data.n", "data.total"), name="listener"))
    failure = TriggerFailure.objects.for_tenant(tenant).get()
    data = {"action": "retry", "_selected_action": [str(failure.pk)]}
    response = root.post(reverse("admin:triggers_triggerfailure_changelist"), data, follow=True)
    assert "1 of 1 events are resolved." in response.content.decode()
    failure.refresh_from_db()
    assert failure.state == "resolved"
