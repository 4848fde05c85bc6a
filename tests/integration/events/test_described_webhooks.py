"""What is sent is as the OpenAPI document describes it under `webhooks`."""

import json

import pytest
from django.utils import timezone
from jsonschema import Draft202012Validator

from events.models import Delivery, WebhookEndpoint
from events.types import KINDS
from events.webhooks.endpoints import disable
from runs.storage import log
from tenants.models import Tenant
from tests.support.factories.records import record
from tests.support.factories.rows import make_run
from tests.support.factories.webhooks import advance_all, make_endpoint
from tests.support.operations import document

pytestmark = pytest.mark.django_db


def schema_of(type: str) -> dict:
    """The schema of the body for a type of events."""
    return document()["webhooks"][type]["post"]["requestBody"]["content"]["application/json"]["schema"]


def bodies(tenant: Tenant) -> list[dict]:
    """All bodies of a tenant's deliveries."""
    return [json.loads(body) for body in Delivery.objects.for_tenant(tenant).values_list("body", flat=True)]


def test_every_type_that_is_kept_is_described():
    assert document()["webhooks"].keys() == {kind.type.value for kind in KINDS if kind.stored}
    assert document()["openapi"].startswith("3.1")


def test_bodies_are_as_they_are_described(tenant: Tenant):
    make_endpoint(tenant)
    gone, _ = make_endpoint(tenant, "https://gone.example/")
    record(make_run(tenant), output="x" * 60_000)
    disable(WebhookEndpoint.objects.for_tenant(tenant).select_for_update(no_key=True).get(pk=gone.pk), "gone")
    advance_all()
    sent = bodies(tenant)
    assert {body["type"] for body in sent} >= {"run.queued", "node.succeeded", "run.succeeded", "webhook.disabled"}
    for body in sent:
        Draft202012Validator(schema_of(body["type"])).validate(body)
    thin = [body for body in sent if "link" in body]
    assert [(body["type"], body["omitted"]) for body in thin] == [("node.succeeded", ["output"])]


def test_the_link_of_a_thin_payload_leads_to_the_event(tenant: Tenant):
    from tests.support.api import Api, read
    from tests.support.factories.rows import make_api_key

    make_endpoint(tenant)
    for number in range(3):
        data = {"number": number, "text": "x" * 30_000}
        log.append_outside(tenant_id=tenant.pk, type="order.paid", at=timezone.now(), data=data)
    advance_all()
    api = Api(make_api_key(tenant)[1])
    for body in bodies(tenant):
        page = read(api.get(body["link"]))
        assert [event["id"] for event in page["results"]] == [body["id"]]
        assert page["results"][0]["data"]["text"] == "x" * 30_000
        assert page["results"][0]["data"]["number"] == body["data"]["number"]
