"""Nodes that wait without executing anything: for a time, a signal, or a decision."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from pyflow.core.errors import NodeTimeoutError
from pyflow.core.events import posix, rfc3339
from pyflow_sdk.node import BaseNodeV2, ConfigT, NodeContext


class WaitKind(StrEnum):
    """Kinds of waits, as in the ``kind`` of their details; a plain timer or signal has none."""

    PAUSED = "paused"
    CHILD = "child"
    ROUND = "round"
    ITEMS = "items"
    DECISION = "approval"


@dataclass(frozen=True, slots=True)
class Suspension:
    """The condition a node waits for: ``until`` (POSIX seconds) or the signal ``signal``, whichever comes first.

    ``details`` is shown to whoever asks why the run waits (plain JSON data).
    """

    until: float | None = None
    signal: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """``{until, signal, details}``, ``until`` as RFC 3339."""
        until = None if self.until is None else rfc3339(self.until)
        return {"until": until, "signal": self.signal, "details": self.details}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Suspension:
        """The inverse of ``as_dict``."""
        until = data.get("until")
        if isinstance(until, str):  # a number is of a record that is older than this form
            until = posix(until)
        return cls(until, data.get("signal"), data.get("details") or {})


#: The wait of a fan-out whose run is paused while items of it are left.
PAUSED = Suspension(details={"kind": WaitKind.PAUSED.value})


def next_round(wait: Suspension | None) -> int | None:
    """Return the number of the round of ``until`` that begins when the wait is over; ``None``: it is no such wait."""
    return int(wait.details["round"]) if wait is not None and wait.details.get("kind") == WaitKind.ROUND else None


def is_of_items(wait: Suspension | None) -> bool:
    """Return whether a fan-out waits, and its items say what for."""
    return wait is not None and wait.details.get("kind") == WaitKind.ITEMS


def awaited(wait: Suspension | None) -> list[str]:
    """The ids of the child runs that a node waits for."""
    return list(wait.details["runs"]) if wait is not None and wait.details.get("kind") == WaitKind.CHILD else []


def limited(wait: Suspension, limits: Mapping[str, float | None], started_at: float) -> Suspension:
    """The wait, ended by the first of the node's ``limits`` (seconds from its start) that is over before it is.

    What that means is said in the details as for the wait's own end: ``on_timeout: fail``, and ``limit`` names the key.
    """
    for key, seconds in limits.items():
        if seconds is not None and (wait.until is None or started_at + seconds < wait.until):
            details = wait.details | {"on_timeout": "fail", "limit": key}
            wait = replace(wait, until=started_at + seconds, details=details)
    return wait


def check_limit(wait: Suspension, limits: Mapping[str, float | None]) -> None:
    """Raise ``NodeTimeoutError`` if the wait, which is over, was ended by one of the node's ``limits``."""
    key = wait.details.get("limit")
    if key is not None:
        seconds = limits.get(key)
        within = "in time" if seconds is None else f"within {seconds:g} s"
        raise NodeTimeoutError(f"what the node waits for did not come {within} (`{key}`)", kind="timeout")


@dataclass(frozen=True, slots=True)
class Signal:
    """A named message to a run. A second one with the same ``id`` is the same signal; one that is early is kept.

    ``sender``: the names of its sender, in the form of the ``assignees`` of an approval. ``None``: the program that
    embeds the engine, which may send anything.
    """

    name: str
    payload: Any = None
    id: str | None = None
    sender: frozenset[str] | None = None


#: The template of a signal's name that may be any name.
ANY_SIGNAL = "{{ signal }}"


class SuspendingNode(BaseNodeV2[ConfigT]):
    """Base of ``wait``, ``signal`` and ``approval``: says what it waits for, and what came of it."""

    @classmethod
    def awaited_signal(cls, node_id: str, config: Mapping[str, Any]) -> str | None:  # noqa: ARG003
        """The name, or the template of the name, of the signal that a node of this config can wait for.

        ``config`` is as it is written, with its templates. ``None``: the node waits for no signal. Any one, unless a
        class says which.
        """
        return ANY_SIGNAL

    @classmethod
    def refusal(cls, suspension: Suspension, signal: Signal) -> str | None:  # noqa: ARG003
        """Return the reason that the waiting node refuses a signal with its name; ``None`` if it takes it.

        A signal that is refused is dropped, and the node keeps waiting. No signal is, unless a class says which.
        """
        return None

    @abstractmethod
    def suspend(self, config: ConfigT, ctx: NodeContext, now: float) -> Suspension:
        """Return the suspension as of ``now`` (POSIX seconds)."""

    @abstractmethod
    def resume(self, config: ConfigT, suspension: Suspension, signal: Signal | None, now: float) -> object:
        """The node's output. ``signal`` is the one that arrived, or ``None`` if the time has come first."""
