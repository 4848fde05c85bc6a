"""Limits failed attempts to authenticate.

Counted by the thing that was tried (a key's public id, a user's name) and by the address it came from. Only failures
count, and what succeeded once in this process is not kept out by the failures of others.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager

from tenants.errors import (
    InvalidKeyError,
    InvalidTokenError,
    InvitationTokenError,
    LoginError,
    TooManyFailuresError,
)
from tenants.limits import Rule, fields, limiter

#: Failures within the window after which the next attempt is refused without looking at it.
PER_SUBJECT = 10
PER_ADDRESS = 30
#: Seconds.
WINDOW = 60.0
#: What says that somebody is not who they claim to be. Anything else that ends an attempt is no fault of theirs.
FAILED = (InvalidKeyError, InvalidTokenError, InvitationTokenError, LoginError)


@contextmanager
def attempt(*subjects: str) -> Iterator[None]:
    """An attempt of these subjects (``kind:name``) to prove who they are, which fails by one of ``FAILED``.

    It is counted as a failure before it is looked at, in one step with asking whether there were too many: attempts
    that come at once are not more than one after another. What did not fail is taken back. Raises
    ``TooManyFailuresError``.
    """
    rules = list(_rules(subjects))
    refusals = [verdict for verdict in limiter.judge(rules) if not verdict.allowed]
    if refusals:
        raise TooManyFailuresError(
            "Too many failed attempts. Retry after `Retry-After` seconds.",
            retry_after=max(1, math.ceil(max(verdict.reset for verdict in refusals))),
        )
    try:
        yield
    except FAILED:
        raise
    except BaseException:
        limiter.take_back(rules)
        raise
    limiter.take_back(rules)


def fields_of(address: str) -> dict[str, str]:
    """The ``RateLimit`` fields of an answer to nobody in particular: how many more failures its address may have."""
    verdicts = limiter.judge(list(_rules((f"address:{address}",))), count=False)
    return fields(dict(zip(["failures"], verdicts, strict=False)))  # none where the address is not known


def _rules(subjects: tuple[str, ...]) -> Iterator[Rule]:
    """Names are hashed: they are the caller's, of any length and with any characters."""
    for subject in subjects:
        kind, _, name = subject.partition(":")
        if name:
            digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
            limit = PER_ADDRESS if kind == "address" else PER_SUBJECT
            yield Rule(f"failures:{kind}:{digest}", limit, WINDOW)
