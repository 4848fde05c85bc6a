"""``until``: a node, or an item of a fan-out, is executed in rounds until an expression about its output holds.

A round is what a node without ``until`` does once: its attempts, with their retries. Between two rounds it waits as a
node waits that does nothing else, so that this is recorded, and holds no worker, no slot and no task of a queue.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyflow.core.duration import MAX_SECONDS
from pyflow.core.errors import NodeTimeoutError, NonRetryableError, PyFlowError
from pyflow.core.result import ItemRun, NodeRun
from pyflow.core.suspension import Suspension, WaitKind, next_round
from pyflow.documents.models import UntilDef
from pyflow.expressions.evaluation import compile_expression
from pyflow.expressions.scope import RoundScope

#: The limit where neither that nor a timeout is given.
DEFAULT_LIMIT = 1_000


class UntilLimitError(NonRetryableError):
    """``until.when`` did not hold after as many rounds as ``until.limit`` allows."""

    code = "until_limit"


class UntilTimeoutError(NodeTimeoutError):
    """``until.when`` does not hold, and no other round begins within ``until.timeout`` (or ``total_timeout``)."""

    code = "until_timeout"
    permanent = True


class UntilConditionError(NonRetryableError):
    """``until.when`` cannot be evaluated."""

    code = "until_condition"


class Until:
    """A compiled ``until``; times in seconds."""

    __slots__ = ("_definition", "_limit", "_when")

    def __init__(self, definition: UntilDef) -> None:
        self._definition = definition
        self._when = compile_expression(definition.when, version=2)
        self._limit = definition.limit or (DEFAULT_LIMIT if definition.timeout is None else None)

    @property
    def names(self) -> frozenset[str]:
        """Return the names that `until.when` looks up."""
        return self._when.names

    def judge(
        self,
        record: NodeRun | ItemRun,
        output: object,
        names: Mapping[str, Any],
        *,
        now: float,
        total_timeout: float | None,
    ) -> Suspension | None:
        """Judge the output of a round that succeeded: ``None`` if it is the last one, else the wait for the next.

        Raises ``UntilConditionError``, ``UntilLimitError`` or ``UntilTimeoutError``.
        """
        try:
            if self._when.evaluate(RoundScope(names, output, record.round)):
                return None
        except PyFlowError as error:
            message = f"`until.when` cannot be evaluated after round {record.round}: {error}"
            raise UntilConditionError(message) from error
        if self._limit is not None and record.round >= self._limit:
            raise UntilLimitError(
                f"`until.when` does not hold after {_rounds(record.round)}, which is the limit:"
                " raise `until.limit`, or wait longer between rounds (`until.every`)"
            )
        due = now + self.interval(record.round)
        for key, seconds in (("until.timeout", self._definition.timeout), ("total_timeout", total_timeout)):
            if seconds is not None and due >= (record.started_at or now) + seconds:
                raise UntilTimeoutError(
                    f"`until.when` does not hold after {_rounds(record.round)}, and no other round begins within"
                    f" {seconds:g} s (`{key}`): raise it, or wait less between rounds (`until.every`)",
                    kind="timeout",
                )
        return Suspension(due, None, {"kind": WaitKind.ROUND.value, "round": record.round + 1})

    def interval(self, number: int) -> float:
        """Return the seconds between the end of a round (counted from 1) and the beginning of the next."""
        longest = MAX_SECONDS if self._definition.max_every is None else self._definition.max_every
        try:
            return min(self._definition.every * self._definition.backoff ** (number - 1), longest)
        except OverflowError:  # 2.0 ** 1024
            return longest


def begin_round(record: NodeRun | ItemRun) -> None:
    """Begin the round that a record waits for."""
    number = next_round(record.wait)
    if number is not None:
        record.round, record.earlier_attempts = number, record.attempts
        record.wait, record.wake_at = None, None


def round_data(record: NodeRun | ItemRun) -> dict[str, int]:
    """Return the event data about the round of an attempt, from the second round on: ``{round, round_attempt}``."""
    if record.round == 1:
        return {}
    return {"round": record.round, "round_attempt": record.attempts - record.earlier_attempts}


def _rounds(count: int) -> str:
    return f"{count:,} round{'' if count == 1 else 's'}"
