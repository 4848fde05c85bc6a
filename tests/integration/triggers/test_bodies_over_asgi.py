"""Inbound webhooks over ASGI: the raw body as it was sent, and 413 before all of a large one is read."""

import asyncio
import json

import pytest
from django.core.asgi import get_asgi_application

from pyflow_site.body_limits import limited
from runs.models import Run
from tests.support.factories.hooks import SECRET, by_github, make_hook
from tests.support.factories.secrets import make_secret

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]
PART = b"x" * 65_536


async def send(path, parts, headers, received):
    """The status and the body of the answer to a request whose body comes in parts."""
    django, sent = get_asgi_application(), []
    lines = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"testserver"), (b"content-type", b"application/json"), *lines],
        "client": ("127.0.0.1", 1),
    }
    rest = iter(parts)

    async def receive():
        part = next(rest, None)
        if part is None:
            await asyncio.sleep(60)  # the sender waits for the answer
        received.append(part)
        return {"type": "http.request", "body": part, "more_body": len(received) < len(parts)}

    async def answer(message):
        sent.append(message)

    await django(scope, limited(scope, receive), answer)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def test_a_body_in_parts_is_verified_as_it_was_sent(tenant):
    make_secret(tenant, "HOOK", SECRET)
    make_hook(tenant)
    parts = [b'{"name":  "Zo', b"\xc3", b'\xab"}\n']
    status, body = asyncio.run(send(f"/hooks/{tenant.slug}/in", parts, by_github(b"".join(parts)), []))
    assert status == 202, body
    assert Run.objects.for_tenant(tenant).get().input == {"name": "Zoë"}


@pytest.mark.parametrize("declared", [{}, {"content-length": "65536000"}])
def test_a_large_body_is_answered_before_all_of_it_is_read(tenant, declared):
    make_hook(tenant, "{scheme: none}")
    received: list[bytes] = []
    status, body = asyncio.run(send(f"/hooks/{tenant.slug}/in", [PART] * 1000, declared, received))
    assert (status, json.loads(body)["code"]) == (413, "document_too_large")
    assert len(received) == (0 if declared else 17)
