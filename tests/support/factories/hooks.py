"""Workflows with triggers, and requests to inbound webhooks signed by the providers' published algorithms."""

import base64
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime
from typing import Any

from django.http import HttpResponse
from standardwebhooks import Webhook

from tenants.models import Tenant
from tests.support.api import JSON, Api
from tests.support.factories.rows import make_workflow
from workflows.models import Version

SECRET = "a-shared-secret-of-32-characters"
WHSEC = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()


def with_triggers(*triggers: str, name: str = "flow", inputs: str = "", nodes: str = "", outputs: str = "{}") -> str:
    """The document of a workflow with these triggers, each as YAML in one line."""
    declared = "".join(f"  - {trigger}\n" for trigger in triggers)
    nodes = nodes or "[{id: a, type: transform, config: {input: '{{ input }}', expression: $}}]"
    return (
        f"version: 2\nname: {name}\n{f'inputs: {inputs}' if inputs else ''}\ntriggers:\n{declared}"
        f"outputs: {outputs}\nnodes: {nodes}\n"
    )


def hook(verify: str = "{scheme: github, secret: HOOK}", *, path: str = "in", rest: str = "", id: str = "hook") -> str:
    """A webhook trigger as YAML in one line."""
    return f"{{id: {id}, type: webhook, config: {{path: {path}, verify: {verify}{', ' if rest else ''}{rest}}}}}"


def make_hook(tenant: Tenant, verify: str = "{scheme: github, secret: HOOK}", **options: Any) -> Version:
    """A published workflow with one webhook."""
    return make_workflow(tenant, with_triggers(hook(verify, **options)))


def deliver(
    tenant: Tenant | str,
    body: Any = b"",
    headers: dict[str, str] | None = None,
    *,
    path: str = "in",
    method: str = "POST",
    content_type: str = JSON,
) -> HttpResponse:
    """Send a request to a webhook of a tenant (or of a slug) as a service would."""
    slug = tenant if isinstance(tenant, str) else tenant.slug
    named = {name.replace("-", "_"): value for name, value in (headers or {}).items()}
    return Api().send(method, f"/hooks/{slug}/{path}", body, content_type, **named)


def raw(body: Any) -> bytes:
    """The bytes of a body, as JSON unless they are bytes already."""
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def by_github(body: Any, secret: str = SECRET, delivery: str = "d-1") -> dict[str, str]:
    """Headers as GitHub sends them."""
    digest = hmac.new(secret.encode(), raw(body), hashlib.sha256).hexdigest()
    return {"X-GitHub-Delivery": delivery, "X-Hub-Signature-256": f"sha256={digest}", "X-GitHub-Event": "push"}


def by_standard(body: Any, secret: str = WHSEC, delivery: str = "msg_1", at: float | None = None) -> dict[str, str]:
    """Headers as the package of Standard Webhooks makes them."""
    now = int(time.time() if at is None else at)
    signature = Webhook(secret).sign(delivery, datetime.fromtimestamp(now, UTC), raw(body).decode())
    return {"webhook-id": delivery, "webhook-timestamp": str(now), "webhook-signature": signature}


def by_stripe(body: Any, secret: str = SECRET, at: float | None = None) -> dict[str, str]:
    """The header that Stripe sends."""
    now = int(time.time() if at is None else at)
    digest = hmac.new(secret.encode(), f"{now}.".encode() + raw(body), hashlib.sha256).hexdigest()
    return {"Stripe-Signature": f"t={now},v1={digest}"}


def by_slack(body: Any, secret: str = SECRET, at: float | None = None) -> dict[str, str]:
    """Headers as Slack sends them."""
    now = int(time.time() if at is None else at)
    digest = hmac.new(secret.encode(), f"v0:{now}:".encode() + raw(body), hashlib.sha256).hexdigest()
    return {"X-Slack-Request-Timestamp": str(now), "X-Slack-Signature": f"v0={digest}"}
