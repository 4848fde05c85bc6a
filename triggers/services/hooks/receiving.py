"""Receive requests to inbound webhooks: verify them, start runs once per delivery, and answer."""

from __future__ import annotations

import hashlib
import logging
import math
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone

from plumbing.database.transactions import retried
from pyflow.core.errors import PyFlowError
from pyflow.core.events import rfc3339
from pyflow.core.messages import cut
from pyflow.core.redaction import Redactor
from pyflow.core.states import TERMINAL_RUN_STATES, RunState
from pyflow.expressions.template import TemplateError
from pyflow.triggers.hooks import AnswerConfig, VerifyConfig, WebhookConfig
from pyflow.triggers.verification import Request, Scheme, delivery_id, is_authentic, signature_headers
from runs.models import Run, Trigger
from runs.services.awaiting import await_runs
from runs.services.start import Started
from runs.storage.reading import outputs_of
from secrets_vault.errors import MasterKeyUnknownError, SecretUnreadableError, VaultNotConfiguredError
from secrets_vault.providers import secrets_of
from tenants.errors import RateLimitedError
from tenants.limits import MINUTE, limiter
from tenants.models import Tenant
from tenants.scoping import lookup_scope, tenant_scope
from triggers.errors import HookInputError, HookNotFoundError
from triggers.models import DeliveryOutcome, HookDelivery, InboundHook
from triggers.services.firing import Firing, fire, rendered
from triggers.services.hooks.bodies import read_body, read_fields
from triggers.services.hooks.refusals import admit_client, charge_client, refusals
from triggers.services.hooks.rows import address_of_hook

logger = logging.getLogger(__name__)
#: Characters of a body that are recorded with its delivery.
MAX_EXCERPT = 2000
#: Headers that say who somebody is; neither templates nor runs see them.
_PRIVATE = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})
_PRIVATE_WORDS = re.compile(r"signature|token|secret|passw|api-?key|credential|session", re.ASCII)
_ADDRESS = re.compile(r"[A-Za-z0-9_-]{1,63}/[A-Za-z0-9._~/-]{1,200}", re.ASCII)
#: Verified in place of a webhook that does not exist, by the same steps.
_DECOY = VerifyConfig(scheme=Scheme.GITHUB, secret="DECOY")  # noqa: S106 - the name of no secret
_NO_TENANT = UUID(int=0)
_UNGUESSABLE = secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbound:
    """A request to ``/hooks/{slug}/{path}``: headers by their names in lower case, and the raw body.

    ``client``: the address that it came from.
    """

    slug: str
    path: str
    method: str
    headers: Mapping[str, str]
    query: str
    body: bytes
    client: str = ""
    received_at: datetime = field(default_factory=timezone.now)

    @property
    def content_type(self) -> str:
        """The media type that the sender declares for the body."""
        return self.headers.get("content-type", "")


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a webhook: a status, a JSON body, and the run that was started."""

    status: int
    body: Any
    run_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class _Verified:
    """An authentic request, its webhook, and what is to be masked in records of it."""

    hook: InboundHook
    config: WebhookConfig
    inbound: Inbound
    redactor: Redactor

    def delivery(self, outcome: DeliveryOutcome, *, given: str = "", run_id: UUID | None = None) -> HookDelivery:
        inbound = self.inbound
        beginning = inbound.body[: 4 * MAX_EXCERPT].decode("utf-8", "replace").replace("\0", "\ufffd")
        return HookDelivery(
            tenant_id=self.hook.tenant_id,
            hook=self.hook,
            received_at=inbound.received_at,
            delivery_id=given,
            outcome=outcome,
            run_id=run_id,
            method=inbound.method,
            content_type=cut(inbound.content_type, 200),
            size=len(inbound.body),
            excerpt=cut(self.redactor.redact_message(beginning), MAX_EXCERPT),
        )


def receive(inbound: Inbound) -> Answer:
    """Start the run of an authentic request, once per delivery, and return the answer to its sender.

    Raises ``HookNotFoundError`` alike for a webhook that does not exist and for a request that is not authentic,
    ``RateLimitedError``, and for what is wrong with an authentic request the errors of ``read_body``,
    ``HookInputError`` and those of ``start_run``.
    """
    verified = _verify(inbound)
    config = verified.config
    _admit(verified.hook, config)
    try:
        data = read_body(inbound.content_type, inbound.body)
        if config.verify.scheme is Scheme.SLACK and isinstance(data, dict) and data.get("type") == "url_verification":
            return Answer(200, {"challenge": data.get("challenge")})  # Slack asks once whether somebody answers
        given = delivery_id(config.verify.verification(), _signed(inbound), data) or ""
        facts = _facts(verified, data)
        started = _start(verified, given, _input(config, facts))
    except PyFlowError as error:
        _record_failure(verified, error)
        raise
    if config.waits is None:
        return Answer(202, {"run_id": str(started.run.pk), "duplicate": not started.created}, started.run.pk)
    return _answer_waited(verified.hook, config.waits, started.run, facts)


def _verify(inbound: Inbound) -> _Verified:
    admit_client(inbound.client)
    hook = _find(inbound)
    config = None if hook is None else hook.declaration()
    verify = _DECOY if config is None else config.verify
    valid = _secrets(hook, inbound.slug, verify)
    # Without a secret another one is compared with: that takes as long, and nobody knows it.
    is_right = is_authentic(verify.verification(), _signed(inbound), valid or [_UNGUESSABLE], now=time.time())
    if hook is None or config is None or not is_right or inbound.method not in config.methods:
        charge_client(inbound.client)
        if hook is not None:
            refusals.count(hook, inbound.client)
        raise HookNotFoundError(
            "No webhook answers this request. Check its URL, its method, and the secret that signs it."
        )
    redactor = Redactor()
    for secret in valid:
        redactor.add(secret)
    return _Verified(hook, config, inbound, redactor)


def _find(inbound: Inbound) -> InboundHook | None:
    address = address_of_hook(inbound.slug, inbound.path.strip("/"))
    address = address if _ADDRESS.fullmatch(address) else "-"
    with lookup_scope(address):
        return InboundHook.objects.across_tenants().filter(address=address).first()


def _secrets(hook: InboundHook | None, slug: str, verify: VerifyConfig) -> Sequence[str]:
    if verify.secret is None:
        return ()
    tenant_id = _NO_TENANT if hook is None else hook.tenant_id
    with tenant_scope(tenant_id, write=False):
        try:
            return secrets_of(tenant_id, slug).valid(verify.secret, timedelta(seconds=verify.overlap))
        except KeyError:
            reason: object = "the secret does not exist"
        except (SecretUnreadableError, MasterKeyUnknownError, VaultNotConfiguredError) as error:
            reason = error
    if hook is not None:
        logger.warning("the inbound webhook %s refuses all requests: secret %s: %s", hook.pk, verify.secret, reason)
    return ()


def _signed(inbound: Inbound) -> Request:
    return Request(inbound.headers, inbound.body)


def _admit(hook: InboundHook, config: WebhookConfig) -> None:
    verdict = limiter.hit(f"hooks:{hook.pk}", config.rate_limit, MINUTE)
    if not verdict.allowed:
        raise RateLimitedError(
            f"Too many requests: this webhook takes {config.rate_limit} a minute.",
            retry_after=max(1, math.ceil(verdict.reset)),
        )


def _facts(verified: _Verified, data: Any) -> dict[str, Any]:
    inbound = verified.inbound
    hidden = signature_headers(verified.config.verify.verification()) | _PRIVATE
    headers = {
        name: value
        for name, value in inbound.headers.items()
        if name not in hidden and not _PRIVATE_WORDS.search(name) and "\0" not in value
    }
    return {
        "body": data,
        "headers": headers,
        "query": read_fields(inbound.query),
        "method": inbound.method,
        "path": verified.hook.path,
        "received_at": rfc3339(inbound.received_at.timestamp()),
    }


def _input(config: WebhookConfig, facts: Mapping[str, Any]) -> dict[str, Any]:
    if config.input is None:
        given = {} if facts["body"] is None else facts["body"]
    else:
        try:
            given = rendered(config.input, {"trigger": facts})
        except TemplateError as error:
            raise HookInputError(f"The trigger's `input` cannot be computed: {error}") from None
    if not isinstance(given, dict):
        where = "The body" if config.input is None else "The result of the trigger's `input`"
        raise HookInputError(f"{where} is no object, and a run's input is one. Map it by the trigger's `input`.")
    return given


@retried
def _start(verified: _Verified, given: str, input: dict[str, Any]) -> Started:
    hook = verified.hook
    with tenant_scope(hook.tenant_id, write=True):
        is_active = Tenant.objects.filter(pk=hook.tenant_id, suspended_at__isnull=True).exists()
        rows = InboundHook.objects.for_tenant(hook.tenant_id).select_related("workflow")
        current = rows.filter(pk=hook.pk).first()
        if current is None or not is_active:  # removed since it was found
            raise HookNotFoundError("The webhook no longer answers requests.")
        started = fire(
            Firing(
                tenant_id=hook.tenant_id,
                workflow=current.workflow,
                kind=Trigger.WEBHOOK,
                trigger=hook.trigger,
                input=input,
                key=_run_key(hook, given) if given else None,
                data={"path": hook.path, "delivery_id": given or None},
            )
        )
        outcome = DeliveryOutcome.ACCEPTED if started.created else DeliveryOutcome.DUPLICATE
        verified.delivery(outcome, given=given, run_id=started.run.pk).save(force_insert=True)
    return started


def _run_key(hook: InboundHook, given: str) -> str:
    digest = hashlib.sha256(given.encode("utf-8", "surrogatepass")).hexdigest()
    return f"webhook:{hook.pk}:{digest}"


def _record_failure(verified: _Verified, error: PyFlowError) -> None:
    hook, delivery = verified.hook, verified.delivery(DeliveryOutcome.FAILED)
    delivery.error = {"code": error.code, "message": cut(verified.redactor.redact_message(str(error)), 1000)}
    with tenant_scope(hook.tenant_id, write=True):
        if InboundHook.objects.for_tenant(hook.tenant_id).filter(pk=hook.pk).exists():
            delivery.save(force_insert=True)


def _answer_waited(hook: InboundHook, answer: AnswerConfig, run: Run, facts: Mapping[str, Any]) -> Answer:
    found = await_runs(tenant_id=hook.tenant_id, run_ids=[run.pk], seconds=answer.wait) or {}
    ended = found.get(run.pk)
    if ended is None or ended.state not in TERMINAL_RUN_STATES:
        return Answer(202, {"run_id": str(run.pk), "state": run.state if ended is None else ended.state}, run.pk)
    with tenant_scope(hook.tenant_id, write=False):
        outputs = outputs_of(ended)
    shown = {"id": str(ended.pk), "state": ended.state, "outputs": outputs, "error": ended.error}
    names = {"trigger": facts, "run": shown}
    succeeded = ended.state == RunState.SUCCEEDED
    try:
        status = rendered(answer.status, names) if answer.status is not None else (200 if succeeded else 502)
        if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 599:
            raise HookInputError("The trigger's `answer.status` gives no number from 200 to 599.")
        if "body" in answer.model_fields_set:
            return Answer(status, rendered(answer.body, names), run.pk)
    except (TemplateError, HookInputError) as error:
        logger.warning("the answer of the inbound webhook %s cannot be computed: %s", hook.pk, error)
        return Answer(502, {"run_id": str(run.pk), "state": ended.state, "error": "answer_failed"}, run.pk)
    default = outputs if succeeded else {"run_id": str(run.pk), "state": ended.state}
    return Answer(status, default, run.pk)
