"""The order in which transactions lock rows, and the repetition of those that PostgreSQL ended for the sake of others.

Every transaction locks in this order, and leaves out what it does not need:

1. a row that the request is about: the tenant, the workflow, the owners and members, the data key, the secret, the key;
2. the lock of a concurrency key (``runs.queue.slots``);
3. runs, by id, all of them before anything that comes later (``runs.services.locks.lock_families``);
4. the counters of quotas, by name (``tenants.quotas``);
5. the head of the audit's chain (``tenants.audit``);
6. rows that foreign keys point at and that are going to be deleted.

Rows are locked by ``select_for_update(no_key=True)``. The plain form also keeps others from inserting rows that refer
to a locked one: PostgreSQL checks a foreign key when the transaction is committed, and whoever inserted such a row has
the counters and the audit by then, for which the holder of the plain lock may be waiting. A deletion takes the plain
lock in any case, and therefore comes last.

Whoever locks only what nobody has locked (``skip_locked``) waits for nobody, and may do so in any order: prune has its
turn at the audit first, and counters apart (``tenants.quotas.count_apart``) come last.

What is missed shows as ``deadlock detected``: one of the two transactions is rolled back. Nothing of it has happened,
so ``retried`` begins it again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from django.db import DatabaseError, connection

logger = logging.getLogger(__name__)
#: What refers to a row that is gone, where no other transaction removed it: a mistake of ours.
_GONE = "23503"
ParametersT = ParamSpec("ParametersT")
ResultT = TypeVar("ResultT")
#: The SQLSTATEs of transactions that may well succeed if they are begun again.
PASSING = {
    "40P01": "deadlock detected",
    "40001": "could not serialize",
    "55P03": "a lock was not available",
    _GONE: "a row that was referred to is gone",
}


def is_passing(error: BaseException) -> bool:
    """Return whether an error of the database is due to concurrent transactions, so that a repetition can succeed."""
    return _state_of(error) in PASSING


def is_contention(error: BaseException) -> bool:
    """Return whether an error that came again, in the repeated transaction, is still caused by other transactions."""
    return is_passing(error) and _state_of(error) != _GONE


def _state_of(error: BaseException) -> str | None:
    return getattr(error.__cause__, "sqlstate", None) if isinstance(error, DatabaseError) else None


def retried(function: Callable[ParametersT, ResultT]) -> Callable[ParametersT, ResultT]:
    """Call a function again, once, whose transaction was ended because of what others did at the same time.

    It must do nothing outside of its transaction that cannot be done twice; what it registered with ``on_commit`` is
    gone with the first one. Inside another transaction nothing is repeated: that is up to whoever began the other one.
    """

    @wraps(function)
    def call(*args: ParametersT.args, **options: ParametersT.kwargs) -> ResultT:
        try:
            return function(*args, **options)
        except DatabaseError as error:
            if connection.in_atomic_block or not is_passing(error):
                raise
            logger.info("%s is begun again: %s", function.__qualname__, PASSING[error.__cause__.sqlstate])  # type: ignore[union-attr] # see `is_passing`
        return function(*args, **options)

    return call
