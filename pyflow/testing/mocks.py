"""Mocks of nodes: return given outputs instead of working, and record the calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pyflow.core.errors import NodeError
from pyflow.core.node import BaseNode, NodeRegistry
from pyflow.documents.models import WorkflowDef
from pyflow.execution.engine import Handler, Middleware, NodeCall
from pyflow.validation.checker import suggest

__all__ = ["MockCall", "MockNode", "check_mocks", "mocked", "registry_for", "split_mocks"]

_UNSET: Any = object()


class MockCall:
    """One call of a mock: the node's id, the rendered ``config`` it was called with, the ``attempt`` (from 1)."""

    __slots__ = ("attempt", "config", "node_id")

    def __init__(self, node_id: str, config: Any, attempt: int) -> None:
        self.node_id = node_id
        self.config = config
        self.attempt = attempt

    def __repr__(self) -> str:
        return f"MockCall({self.node_id!r}, {self.config!r}, attempt={self.attempt})"


class MockNode:
    """Stands in for a node and records its ``calls``. Say at most one of how it answers:

    - ``returns``: always this (``None`` if nothing is said).
    - ``raises``: always this exception.
    - ``sequence``: one item a call; exceptions among them are raised. One call too many is a ``NodeError``.
    - ``call``: what ``call(config)`` returns; it may be ``async``.
    """

    def __init__(
        self,
        *,
        returns: Any = _UNSET,
        raises: BaseException | type[BaseException] | None = None,
        sequence: Sequence[Any] | None = None,
        call: Callable[[Any], Any] | None = None,
    ) -> None:
        given = [returns is not _UNSET, raises is not None, sequence is not None, call is not None]
        if sum(given) > 1:
            raise ValueError("a MockNode has one of returns, raises, sequence, call")
        self.calls: list[MockCall] = []
        self._returns = None if returns is _UNSET else returns
        self._raises = raises
        self._sequence = None if sequence is None else list(sequence)
        self._call = call

    @property
    def call_count(self) -> int:
        """Return the number of calls, every attempt of a retried node included."""
        return len(self.calls)

    @property
    def called(self) -> bool:
        """Return whether it was called at all."""
        return bool(self.calls)

    async def answer(self, node_id: str, config: Any, attempt: int = 1) -> Any:
        """Note the call, then return or raise what this mock was made for."""
        self.calls.append(MockCall(node_id, config, attempt))
        if self._call is not None:
            answer = self._call(config)
            return await answer if inspect.isawaitable(answer) else answer
        if self._raises is not None:
            raise self._raises
        return self._returns if self._sequence is None else self._next(node_id, self._sequence)

    def _next(self, node_id: str, sequence: list[Any]) -> Any:
        if len(self.calls) > len(sequence):
            raise NodeError(f"the mock of {node_id!r} has {len(sequence)} answers and was called once more")
        item = sequence[len(self.calls) - 1]
        if isinstance(item, BaseException) or (isinstance(item, type) and issubclass(item, BaseException)):
            raise item
        return item


def mocked(mocks: Mapping[str, Any]) -> Middleware:
    """Engine middleware that answers for the nodes in ``mocks`` and lets all others run.

    ``NODE`` is a node of the workflow that was started, ``WORKFLOW/NODE`` one of a run that it starts, however deep.
    A value is a ``MockNode``, or anything else: the output itself. Templates of a mocked node's config are rendered
    as ever; its work, its config model and its type are not looked at.
    """
    nodes = {node_id: mock if isinstance(mock, MockNode) else MockNode(returns=mock) for node_id, mock in mocks.items()}

    async def middleware(call: NodeCall, run: Handler) -> object:
        *above, workflow = call.lineage
        mock = nodes.get(f"{workflow}/{call.node.id}" if above else call.node.id)
        if mock is None:
            return await run(call)
        return await mock.answer(call.node.id, call.config, call.attempt)

    return middleware


def split_mocks(workflow: WorkflowDef, mocks: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The mocks of the workflow's own nodes by id, and those of other workflows by their names and their nodes' ids."""
    own: dict[str, Any] = {}
    others: dict[str, dict[str, Any]] = {}
    ids = {node.id for node in workflow.all_nodes()}
    for key, mock in mocks.items():
        name, slash, node_id = key.rpartition("/")
        if slash and key not in ids:
            others.setdefault(name, {})[node_id] = mock
        else:
            own[key] = mock
    return own, others


def check_mocks(workflow: WorkflowDef, mocks: Mapping[str, Any]) -> None:
    """Raise ``ValueError``, with a suggestion, for a mock of a node that the workflow does not have."""
    known = [node.id for node in workflow.all_nodes()]
    for node_id in mocks:
        if node_id not in known:
            near = suggest(node_id, known)
            hint = f" (did you mean {near!r}?)" if near else ""
            raise ValueError(f"there is no node {node_id!r} in workflow {workflow.name!r} to mock{hint}")


def registry_for(workflow: WorkflowDef, registry: NodeRegistry, mocks: Mapping[str, Any]) -> NodeRegistry:
    """``registry``, plus the types that it does not know and whose nodes all are mocked: they need no class.

    A type of which one node is not mocked stays unknown, and is refused or fails as it would without mocks.
    """
    real = {node.type for node in workflow.all_nodes() if node.id not in mocks}
    unknown = {node.type for node in workflow.all_nodes() if node.type not in registry} - real
    if not unknown:
        return registry
    extended = registry.copy()
    for node_type in sorted(unknown):
        extended.register(type("MockedType", (_MockedType,), {"node_type": node_type}))
    return extended


class _MockedType(BaseNode[Any, Any]):
    """Gives a type its name; the middleware answers before it is ever called."""

    async def execute(self, config: Any, context: Any) -> object:  # noqa: ARG002 - BaseNode's signature
        raise NodeError(f"nodes of type {self.node_type!r} exist as mocks only")
