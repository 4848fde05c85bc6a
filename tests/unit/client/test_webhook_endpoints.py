"""Webhook endpoints and deliveries through the client."""

import httpx2
import pytest
from django.core.asgi import get_asgi_application

from pyflow_client import AsyncClient, Conflict, Invalid, NotFound
from tenants.api_keys import create_api_key
from tenants.services import create_tenant


@pytest.fixture
def key(transactional_db) -> str:
    return create_api_key(tenant=create_tenant(slug="client"), name="test")[1]


async def test_the_platform_answers_as_the_client_expects(key):
    transport = httpx2.ASGITransport(app=get_asgi_application())
    async with AsyncClient("http://localhost", key, transport=transport) as pyflow:
        with pytest.raises(Invalid):
            await pyflow.create_webhook("http://10.0.0.1/")
        made = await pyflow.create_webhook(
            "https://receiver.example/", description="shop", types=["run.*"], labels={"team": "commerce"}
        )
        assert str(made.secret).startswith("whsec_")
        assert made.secret not in repr(made)
        assert [item.id async for item in pyflow.webhooks()] == [made.id]
        changed = await pyflow.update_webhook(made.id, types=["run.failed"], workflows=["orders"])
        assert (changed.types, changed.workflows, changed.secret) == (("run.failed",), ("orders",), None)
        rotated = await pyflow.rotate_webhook(made.id)
        assert rotated.secret not in (None, made.secret)
        with pytest.raises(Conflict):
            await pyflow.rotate_webhook(made.id)
        assert (await pyflow.rotate_webhook(made.id, force=True)).secret

        sent = await pyflow.test_webhook(made.id)
        assert (sent.type, sent.state) == ("webhook.test", "pending")
        assert [item.id async for item in pyflow.deliveries(webhook=made.id, state=["pending"])] == [sent.id]
        shown = await pyflow.delivery(sent.id)
        assert '"webhook.test"' in str(shown.body)
        assert shown.log == ()
        assert (await pyflow.redeliver(sent.id)).message_id == sent.message_id
        assert (await pyflow.redeliver_webhook(made.id)).deliveries == 0
        assert (await pyflow.redeliver_webhook(made.id, states=["pending"], since=sent.event_at)).deliveries == 1

        assert (await pyflow.pause_webhook(made.id)).state == "paused"
        with pytest.raises(Conflict):
            await pyflow.test_webhook(made.id)
        assert (await pyflow.resume_webhook(made.id, skip=True)).state == "active"
        await pyflow.delete_webhook(made.id)
        with pytest.raises(NotFound):
            await pyflow.webhook(made.id)
