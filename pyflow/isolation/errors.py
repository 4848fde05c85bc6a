"""Errors of isolated nodes: those of the isolation itself, and a node's own, on their way from its process."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pyflow.core.errors import NodeError, NonRetryableError, PyFlowError, RetryableError
from pyflow.core.messages import current_redactor, cut, masked
from pyflow.core.result import bounded_body
from pyflow.core.tracebacks import text_of, traceback_of


class MemoryLimitError(NonRetryableError, MemoryError):
    """The node wanted more memory than its ``memory_limit``."""

    code: ClassVar[str] = "memory_limit"


class CpuLimitError(NonRetryableError):
    """The node used more CPU time than its ``cpu_limit``."""

    code: ClassVar[str] = "cpu_limit"


class NodeProcessDiedError(RetryableError):
    """The node's process ended without a result: killed from outside, or crashed."""

    code: ClassVar[str] = "node_process_died"


class NotIsolatableError(NonRetryableError):
    """The node's class, config or context cannot be handed to another process."""

    code: ClassVar[str] = "not_isolatable"


class IsolatedOutputError(NonRetryableError):
    """The output is larger than an isolated node may give."""

    code: ClassVar[str] = "output_too_large"


# --- errors across the border ------------------------------------------------------------------------------------

_FLAVOURS: Mapping[str, type[NodeError]] = {
    "retryable": RetryableError,
    "non_retryable": NonRetryableError,
    "node": NodeError,
}
#: Python's own errors that the retry policy and users' code look at by class.
_REAL: Mapping[str, type[Exception]] = {"TimeoutError": TimeoutError, "ConnectionError": ConnectionError}
_NAME = re.compile(r"[A-Za-z_]\w{0,99}", re.ASCII)
MAX_CLASSES = 12
MAX_TEXT = 20_000


def describe_error(error: BaseException) -> dict[str, Any]:
    """Return an error as JSON data.

    It is ``{classes, flavour, code, message, traceback, kind, status, body, retry_after}``.
    """
    flavour = next((name for name, cls in _FLAVOURS.items() if isinstance(error, cls)), "node")
    if isinstance(error, PyFlowError) and error.permanent:
        flavour = "non_retryable"
    common = {NodeError, RetryableError, NonRetryableError, PyFlowError, Exception, BaseException, object}
    classes = [cls.__name__ for cls in type(error).__mro__ if cls not in common]
    body = error.body if isinstance(error, NodeError) else None
    return {
        "classes": classes[:MAX_CLASSES],
        "flavour": flavour,
        "code": error.code if isinstance(error, PyFlowError) else NodeError.code,
        "message": cut(masked(text_of(error)), MAX_TEXT),
        "traceback": cut(masked(traceback_of(error) or ""), MAX_TEXT, keep="end"),
        "kind": error.kind if isinstance(error, NodeError) else None,
        "status": error.status if isinstance(error, NodeError) else None,
        "body": None if body is None else bounded_body(body, current_redactor.get()),
        "retry_after": getattr(error, "retry_after", None) if isinstance(error, RetryableError) else None,
    }


def rebuild_error(described: Mapping[str, Any]) -> NodeError:
    """Rebuild the error of ``describe_error``: a ``NodeError`` whose class and base classes have the same names."""
    classes = [str(name) for name in described.get("classes") or () if _NAME.fullmatch(str(name))][:MAX_CLASSES]
    flavour = described.get("flavour")
    code, kind, status = described.get("code"), described.get("kind"), described.get("status")
    cls = _error_class(
        tuple(classes),
        flavour if flavour in _FLAVOURS else "node",
        code if isinstance(code, str) and _NAME.fullmatch(code) else NodeError.code,
    )
    details: dict[str, Any] = {
        "kind": kind if isinstance(kind, str) else None,
        "status": status if type(status) is int else None,
        "body": described.get("body"),
    }
    after = described.get("retry_after")
    if issubclass(cls, RetryableError):
        details["retry_after"] = float(after) if isinstance(after, int | float) else None
    error = cls(str(described.get("message", "")), **details)
    error.remote_traceback = str(described.get("traceback") or "") or None  # type: ignore[attr-defined]
    return error


@functools.lru_cache(maxsize=256)
def _error_class(names: Sequence[str], flavour: str, code: str) -> type[NodeError]:
    bases: tuple[type[Exception], ...] = (_FLAVOURS[flavour],)
    bases += tuple(_REAL[name] for name in names if name in _REAL)
    cls: Any = _FLAVOURS[flavour]
    # The last in the list is the most general one. `retry_on` may name any of them.
    for name in reversed(names or [cls.__name__]):
        cls = type(name, bases, {"code": code, "__module__": __name__})
        bases = (cls,)
    return cls  # type: ignore[no-any-return]
