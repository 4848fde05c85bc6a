"""Retry policies: decide whether and when a failed attempt is repeated."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pyflow.core.duration import MAX_SECONDS
from pyflow.core.error_kinds import error_kinds
from pyflow.core.errors import NonRetryableError, PyFlowError
from pyflow.core.messages import said
from pyflow.core.redaction import Redactor
from pyflow.core.result import ErrorInfo
from pyflow.documents.models import RetryDef
from pyflow.expressions.evaluation import Expression, compile_expression
from pyflow_sdk.errors import RetryableError

V1_MAX_RETRIES = 3
V1_DELAY = 1.0
MAX_ATTEMPTS = 3


class RetryConditionError(NonRetryableError):
    """``retry.when`` cannot be evaluated."""

    code = "retry_condition"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """A retry policy; intervals in seconds. ``attempt`` counts from 1."""

    max_attempts: int = MAX_ATTEMPTS
    initial_interval: float = 1.0
    backoff_coefficient: float = 2.0
    max_interval: float = 60.0
    jitter: Literal["none", "full", "equal"] = "none"
    retry_on: frozenset[str] | None = None
    non_retryable: frozenset[str] = frozenset()
    when: Expression | None = None

    @classmethod
    def v1(cls, definition: RetryDef | None) -> RetryPolicy:
        """``max_retries`` more attempts, waiting ``delay * 2**(attempt-1)`` seconds."""
        retries = V1_MAX_RETRIES if definition is None or definition.max_retries is None else definition.max_retries
        delay = V1_DELAY if definition is None or definition.delay is None else definition.delay
        return cls(max_attempts=retries + 1, initial_interval=delay, max_interval=float("inf"))

    @classmethod
    def v2(cls, definition: RetryDef) -> RetryPolicy:
        """From version 2's ``retry``; v1's two keys are understood there, too."""
        retries = definition.max_retries
        attempts = definition.max_attempts or (retries + 1 if retries is not None else MAX_ATTEMPTS)
        initial = definition.initial_interval if definition.initial_interval is not None else definition.delay
        return cls(
            max_attempts=attempts,
            initial_interval=1.0 if initial is None else initial,
            backoff_coefficient=definition.backoff_coefficient or 2.0,
            max_interval=60.0 if definition.max_interval is None else definition.max_interval,
            jitter=definition.jitter or "none",
            retry_on=None if definition.retry_on is None else frozenset(definition.retry_on),
            non_retryable=frozenset(definition.non_retryable or ()),
            when=None if definition.when is None else compile_expression(definition.when, version=2),
        )

    def retries(self, error: BaseException) -> bool:
        """Return whether this kind of error is retried, if ``when`` allows it."""
        if isinstance(error, PyFlowError) and error.permanent:
            return False
        if self.retry_on is None and not self.non_retryable:
            return True
        kinds = error_kinds(error)
        return not (kinds & self.non_retryable) and (self.retry_on is None or bool(kinds & self.retry_on))

    def _is_wanted(self, attempt: int, error: BaseException, redactor: Redactor | None) -> bool:
        """Return whether ``when`` lets this error be retried. Raises ``RetryConditionError``."""
        if self.when is None:
            return True
        names = {"error": ErrorInfo.of(error, None, redactor).as_names(), "attempt": attempt}
        try:
            return bool(self.when.evaluate(names))
        except PyFlowError as mistake:
            failed = said(redactor.redact_message(str(error)) if redactor else str(error))
            raise RetryConditionError(
                f"`retry.when` cannot be evaluated after attempt {attempt}, which failed: {failed}. {mistake}"
            ) from error

    def delay(
        self,
        attempt: int,
        error: BaseException,
        uniform: Callable[[float, float], float] = random.uniform,
        redactor: Redactor | None = None,
    ) -> float | None:
        """Seconds to wait after ``attempt`` failed with ``error``; ``None`` if that was the last one.

        A ``retry_after`` that the error carries (RFC 9110 10.2.3) is a lower bound. ``redactor``: what it knows is
        masked in what ``when`` sees. Raises ``RetryConditionError``.
        """
        if attempt >= self.max_attempts or not self.retries(error) or not self._is_wanted(attempt, error, redactor):
            return None
        try:
            wait = min(self.initial_interval * self.backoff_coefficient ** (attempt - 1), self.max_interval)
        except OverflowError:  # 2.0 ** 1024
            wait = self.max_interval
        wait = min(wait, MAX_SECONDS)
        if self.jitter == "full":
            wait = uniform(0, wait)
        elif self.jitter == "equal":
            wait = uniform(wait / 2, wait)
        after = error.retry_after if isinstance(error, RetryableError) else None
        return wait if after is None else max(wait, after)
