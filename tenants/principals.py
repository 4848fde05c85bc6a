"""Credentials that were checked a moment ago, and whom each of them acts for."""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from uuid import UUID

from django.conf import settings

from tenants.access import Principal

#: How long a checked credential is believed without looking again. Seconds.
CACHE_SECONDS = 5.0
CACHE_SIZE = 10_000


@dataclass(frozen=True, slots=True)
class Checked:
    """A credential that was good: whom it acts for, until when that is believed, and what had proved it.

    ``until`` is a monotonic time in seconds. An entry that is older, or not ``current``, has its rows read again before
    it is believed. ``proof`` is the hash that bcrypt agreed to: while the row has that one, bcrypt, which would say the
    same, is not asked again.
    """

    principal: Principal
    until: float
    proof: str = ""
    current: bool = True


class PrincipalCache:
    """Checked credentials by an HMAC of their text: the credentials themselves are not kept in memory.

    An entry that is too old to be believed stays until its place is needed. It says that this very text was good once,
    so its owner is not kept out by the failures of somebody who only knows the public part of it.
    """

    def __init__(self) -> None:
        self._entries: OrderedDict[bytes, Checked] = OrderedDict()
        self._lock = threading.Lock()
        self._checking: dict[bytes, threading.Lock] = {}

    def digest(self, text: str) -> bytes:
        """Under which a credential is kept."""
        return hmac.digest(settings.PYFLOW_KEY_PEPPER.encode(), text.encode(), hashlib.sha256)

    def get(self, digest: bytes) -> Checked | None:
        """Return the cached principal of a credential, or the cached refusal."""
        with self._lock:
            return self._entries.get(digest)

    def principal(self, digest: bytes) -> Principal | None:
        """Whom a credential acts for, if that is believed without looking."""
        entry = self.get(digest)
        if entry is None or not entry.current or entry.until <= time.monotonic():
            return None
        return entry.principal

    def put(self, digest: bytes, principal: Principal, *, proof: str = "", until: float | None = None) -> None:
        """Believe a credential until then (default: ``CACHE_SECONDS`` from now)."""
        until = time.monotonic() + CACHE_SECONDS if until is None else until
        with self._lock:
            self._entries[digest] = Checked(principal, until, proof)
            self._entries.move_to_end(digest)
            while len(self._entries) > CACHE_SIZE:
                self._entries.popitem(last=False)

    def forget(self, digest: bytes) -> None:
        """Know nothing of a credential any more."""
        with self._lock:
            self._entries.pop(digest, None)

    def outdate(self, tenant_id: UUID) -> None:
        """Look again at everybody who acts for a tenant: somebody's access has changed."""
        with self._lock:
            for digest, entry in self._entries.items():
                if entry.principal.tenant_id == tenant_id and entry.current:
                    self._entries[digest] = replace(entry, current=False)

    @contextmanager
    def one_at_a_time(self, digest: bytes) -> Iterator[None]:
        """Many requests that come with a credential at once wait for one check of it."""
        with self._lock:
            lock = self._checking.setdefault(digest, threading.Lock())
        try:
            with lock:
                yield
        finally:
            with self._lock:
                self._checking.pop(digest, None)

    def clear(self) -> None:
        """Know nothing."""
        with self._lock:
            self._entries.clear()


cache = PrincipalCache()
