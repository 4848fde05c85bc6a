"""The base class of a node type and what a node is handed while it runs."""

from __future__ import annotations

import logging
from abc import ABC
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel

from pyflow_sdk.errors import PyFlowError

ConfigT = TypeVar("ConfigT", bound=BaseModel)


class SecretNotFoundError(PyFlowError, KeyError):
    """No secret of that name is available to this run."""

    code: ClassVar[str] = "secret_not_found"
    permanent: ClassVar[bool] = True

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class NodeContext:
    """Context of a running node: its run, its attempt, and the services it may use.

    ``idempotency_key`` is the same for every attempt of one node in one run (``run:node``, with an item suffix in a
    fan-out and the round of a node with ``until``); send it to services that can deduplicate. ``attempt`` counts from 1
    (in each round). ``item_key``: the key of the item in a fan-out, else ``None``.
    """

    __slots__ = ("_cancelled", "_progress", "_secrets", "attempt", "idempotency_key", "item_key", "logger", "node_id",
                 "run_id", "workflow")  # fmt: skip

    def __init__(
        self,
        *,
        run_id: str,
        node_id: str,
        workflow: str,
        attempt: int = 1,
        secrets: Mapping[str, str] | None = None,
        progress: Callable[[float, str], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        logger: logging.Logger | logging.LoggerAdapter[logging.Logger] | None = None,
        idempotency_key: str | None = None,
        item_key: str | None = None,
    ) -> None:
        self.run_id = run_id
        self.node_id = node_id
        self.workflow = workflow
        self.attempt = attempt
        self.item_key = item_key
        self.idempotency_key = idempotency_key or f"{run_id}:{node_id}"
        self.logger: logging.Logger | logging.LoggerAdapter[logging.Logger] = logger or logging.getLogger(
            f"pyflow.node.{node_id}"
        )
        self._secrets: Mapping[str, str] = secrets if secrets is not None else {}
        self._progress = progress
        self._cancelled = cancelled

    def secret(self, name: str) -> str:
        """Return the value of the secret ``name``; raises ``SecretNotFoundError`` (a ``KeyError``) without one."""
        try:
            return self._secrets[name]
        except KeyError:
            raise SecretNotFoundError(f"secret not found: {name}") from None

    def progress(self, fraction: float, message: str = "") -> None:
        """Report the progress of this node: ``fraction`` from 0.0 to 1.0. It is not stored permanently."""
        if not 0.0 <= fraction <= 1.0:
            raise ValueError(f"progress is a fraction between 0 and 1, not {fraction}")
        if self._progress is not None:
            self._progress(fraction, message)

    @property
    def cancelled(self) -> bool:
        """Return whether the run was asked to stop; long ``def run`` nodes check this and return early."""
        return self._cancelled is not None and self._cancelled()


class BaseNodeV2(ABC, Generic[ConfigT]):
    """Base class of a node type.

    Set ``node_type`` and ``Config`` (a pydantic model of the node's ``config``), and define ``run``: ``async def`` runs
    on the event loop, plain ``def`` in a thread. What ``run`` returns is the node's output; with ``Output`` set (a
    pydantic model) it is validated against it.
    """

    node_type: ClassVar[str]
    display_name: ClassVar[str] = ""
    category: ClassVar[str] = "general"
    description: ClassVar[str] = ""
    version: ClassVar[str] = "1.0.0"
    example: ClassVar[Mapping[str, Any]] = {}
    Config: ClassVar[type[BaseModel]]
    Output: ClassVar[type[BaseModel] | None] = None

    run: Callable[[ConfigT, NodeContext], Awaitable[object] | object]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        declared = cls.__dict__
        if "run" in declared and not callable(declared["run"]):
            raise TypeError(
                f"{cls.__name__}.run must be a function: `async def run(self, config, ctx)` or `def run(…)`"
            )
