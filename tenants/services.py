"""Verbs about tenants and their keys."""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from tenants.access import Permission, Principal, Role
from tenants.errors import InvalidKeyError
from tenants.keys import ParsedKey, check_secret, hash_secret, make_key, parse_key
from tenants.models import ApiKey, Membership, Tenant

#: How long a checked key is believed without looking again; a revocation takes effect within it. Seconds.
CACHE_SECONDS = 5.0
CACHE_SIZE = 10_000
LAST_USED_SECONDS = 60.0


class _Cache:
    """Keys that were checked a moment ago, by an HMAC of their text: the keys themselves are not kept in memory."""

    def __init__(self) -> None:
        self._entries: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()
        self._lock = threading.Lock()
        self._checking: dict[bytes, threading.Lock] = {}

    def digest(self, text: str) -> bytes:
        return hmac.digest(settings.PYFLOW_KEY_PEPPER.encode(), text.encode(), hashlib.sha256)

    def get(self, digest: bytes) -> Principal | None:
        with self._lock:
            entry = self._entries.get(digest)
        return entry[1] if entry is not None and entry[0] > time.monotonic() else None

    def put(self, digest: bytes, principal: Principal) -> None:
        with self._lock:
            self._entries[digest] = (time.monotonic() + CACHE_SECONDS, principal)
            self._entries.move_to_end(digest)
            while len(self._entries) > CACHE_SIZE:
                self._entries.popitem(last=False)

    @contextmanager
    def one_at_a_time(self, digest: bytes) -> Iterator[None]:
        """Many requests that come with a key at once wait for one check of it, instead of each making its own."""
        with self._lock:
            lock = self._checking.setdefault(digest, threading.Lock())
        try:
            with lock:
                yield
        finally:
            with self._lock:
                self._checking.pop(digest, None)

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()


key_cache = _Cache()


def create_tenant(*, slug: str, name: str = "") -> Tenant:
    """A new tenant; raises ``IntegrityError`` if the slug is taken."""
    return Tenant.objects.create(slug=slug, name=name or slug)


@transaction.atomic
def create_api_key(*, tenant: Tenant, name: str, env: str = "live", role: Role = Role.OWNER) -> tuple[ApiKey, str]:
    """A new key of the installation itself and its text, which is not kept anywhere: show it now."""
    made = make_key(env)
    key: ApiKey = ApiKey.objects.create(
        tenant=tenant,
        name=name,
        role=role.value,
        key_id=made.key_id,
        secret_hash=hash_secret(made.secret),
        last4=made.text[-4:],
    )
    return key, made.text


def authenticate_key(*, text: str) -> Principal:
    """Who the key acts for. Raises ``InvalidKeyError``, in the same words whatever is wrong with it."""
    parsed = parse_key(text)
    if parsed is None:
        raise InvalidKeyError("The API key is not valid.")
    digest = key_cache.digest(text)
    principal = key_cache.get(digest)
    if principal is not None:
        return principal
    with key_cache.one_at_a_time(digest):
        return key_cache.get(digest) or _check(parsed, digest)


def _check(parsed: ParsedKey, digest: bytes) -> Principal:
    key = ApiKey.objects.across_tenants().filter(key_id=parsed.key_id).first()
    # An unknown id costs as much as a wrong secret: which ids exist must not be told by the clock.
    if not check_secret(parsed.secret, key.secret_hash if key is not None else _unknown_hash()):
        raise InvalidKeyError("The API key is not valid.")
    if key is None or not key.usable:
        raise InvalidKeyError("The API key is not valid.")
    now = timezone.now()
    if key.last_used_at is None or (now - key.last_used_at).total_seconds() > LAST_USED_SECONDS:
        ApiKey.objects.across_tenants().filter(pk=key.pk).update(last_used_at=now)
    principal = _principal(key)
    key_cache.put(digest, principal)
    return principal


def _principal(key: ApiKey) -> Principal:
    role = Role(key.role)
    if key.created_by_id is not None:
        made_by = Membership.objects.for_tenant(key.tenant_id).filter(user=key.created_by_id).first()
        if made_by is None:  # keys of a member go with the member
            raise InvalidKeyError("The API key is not valid.")
        role = min(role, Role(made_by.role), key=lambda role: role.rank)
    scopes = None if key.scopes is None else frozenset(Permission(scope) for scope in key.scopes)
    return Principal(key.tenant_id, "key", str(key.pk), key.name, role, scopes, key.created_by_id)


_unknown: list[str] = []


def _unknown_hash() -> str:
    if not _unknown:
        _unknown.append(hash_secret("no key has this secret"))
    return _unknown[0]
