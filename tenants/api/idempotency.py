"""``Idempotency-Key``: a ``POST`` that is sent twice is done once, and answered twice.

The answer is stored in the transaction of its effects, so either both exist or neither does. After 24 hours the key
may be used anew. Source: draft-ietf-httpapi-idempotency-key-header.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac
from rest_framework.request import Request
from rest_framework.response import Response

from plumbing.database import locks
from tenants.access import Principal
from tenants.errors import IdempotencyConflictError, IdempotencyKeyError, IdempotencyMismatchError
from tenants.models import IdempotentAnswer
from tenants.retention import ANSWERS_KEPT

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
#: What is being answered in this process. SQLite would let a second request wait for the first one's transaction.
_answering: set[tuple[str, ...]] = set()
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Once:
    """A request that is to be done once: whose, where, by which key, and what it says."""

    principal: Principal
    route: str
    key: str
    fingerprint: str

    @property
    def scope(self) -> tuple[str, ...]:
        """Within which the key is one."""
        return (str(self.principal.tenant_id), f"{self.principal.kind}:{self.principal.id}", self.route, self.key)

    def step(self, name: str) -> Once:
        """A part of this request that is committed by itself, and done once like the whole."""
        return replace(self, route=hashlib.sha256(f"{self.route} {name}".encode()).hexdigest())


def key_of(request: Request) -> str:
    """The key of a request that has one. Raises ``IdempotencyKeyError`` for what cannot be one."""
    key = request.headers["Idempotency-Key"]
    if not _KEY.fullmatch(key):
        raise IdempotencyKeyError("`Idempotency-Key` is 1 to 255 visible ASCII characters; a UUID is a good one.")
    return key


@contextmanager
def in_flight(principal: Principal, request: Request) -> Iterator[Once]:
    """The request, as long as no other of the same key is being answered (``IdempotencyConflictError``)."""
    key = key_of(request)
    route = hashlib.sha256(request.path.encode("utf-8", "surrogatepass")).hexdigest()
    once = Once(principal, route, key, _fingerprint(request))
    with _lock:
        if once.scope in _answering:
            raise IdempotencyConflictError(
                "A request with this `Idempotency-Key` is still being processed. Try again later."
            )
        _answering.add(once.scope)
    try:
        yield once
    finally:
        with _lock:
            _answering.discard(once.scope)


def answer_once(once: Once, handler: Callable[[], Response], *, hidden: tuple[str, ...]) -> Response:
    """The stored answer of this key, or the handler's, which is stored; in the current transaction.

    ``hidden`` fields are not stored. Raises ``IdempotencyMismatchError`` if the key came with something else before,
    ``IdempotencyConflictError`` if another process is answering it now.
    """
    replay = stored_answer(once)
    if replay is not None:
        return replay
    _, principal, route, key = once.scope
    response = handler()
    data = response.data
    if isinstance(data, dict):
        data = {name: None if name in hidden else value for name, value in data.items()}
    answer = IdempotentAnswer(
        tenant_id=once.principal.tenant_id,
        principal=principal,
        route=route,
        key=key,
        fingerprint=once.fingerprint,
        status=response.status_code,
        headers={name: value for name, value in response.headers.items() if name in {"Location", "ETag"}},
        body=json.dumps(data, default=_plain),
    )
    try:
        with transaction.atomic():
            answer.save(force_insert=True)
    except IntegrityError:
        raise IdempotencyConflictError(
            "A request with this `Idempotency-Key` has just been processed. Send it again."
        ) from None
    return response


def stored_answer(once: Once) -> Response | None:
    """The stored answer of this key, which is forgotten if it is too old. Raises as ``answer_once``."""
    _claim(once)
    tenant, principal, route, key = once.scope
    rows = IdempotentAnswer.objects.for_tenant(tenant).filter(principal=principal, route=route, key=key)
    stored = rows.first()
    if stored is not None and stored.created_at < timezone.now() - ANSWERS_KEPT:
        rows.delete()
        stored = None
    if stored is None:
        return None
    if stored.fingerprint != once.fingerprint:
        raise IdempotencyMismatchError(
            "This `Idempotency-Key` was already used for a different request. Use a new one."
        )
    headers = stored.headers | {"Idempotent-Replayed": "true"}
    return Response(json.loads(stored.body), status=stored.status, headers=headers)


def _claim(once: Once) -> None:
    if not locks.try_lock("\n".join(once.scope)):
        raise IdempotencyConflictError(
            "A request with this `Idempotency-Key` is still being processed. Try again later."
        )


def _fingerprint(request: Request) -> str:
    """Of the method, the query and what the body means."""
    content = json.dumps(request.data, sort_keys=True, default=_plain)
    said = "\n".join((str(request.method), request.META.get("QUERY_STRING", ""), content))
    # Keyed: a body may hold a secret, and a plain hash of a guessable one reveals it.
    return salted_hmac("pyflow.idempotency", said.encode("utf-8", "surrogatepass"), algorithm="sha256").hexdigest()


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
