"""Port for apps above that depend on workflows: they register when they start, and this app asks them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from pyflow.core.events import EventType
from tenants.access import Actor
from workflows.models import Version, Workflow


class Dependents(Protocol):
    """The runs of workflows."""

    def exist(self, *, tenant_id: UUID, workflow_id: UUID) -> bool:
        """Return whether the workflow has runs, finished or not."""

    def in_flight(self, *, tenant_id: UUID, workflow_id: UUID) -> dict[int, int]:
        """Count the runs that have not ended, by the number of their version."""

    def delete(self, *, tenant_id: UUID, workflow_id: UUID) -> None:
        """Delete all runs of the workflow, none of which is in flight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of a workflow, or of one of its versions, in the transaction that makes it."""

    type: EventType
    workflow: Workflow
    version: Version | None = None
    by: Actor
    data: dict[str, Any] = field(default_factory=dict)


#: Called in the transaction of a change, once the rows have changed; an exception undoes the change.
Follower = Callable[[Change], None]

_attached: list[Dependents] = []
_followers: list[Follower] = []


def attach(dependents: Dependents) -> None:
    """Let those be asked from now on."""
    _attached[:] = [dependents]


def dependents() -> Dependents:
    """Return the registered dependents; before all apps are loaded there are none (``IndexError``)."""
    return _attached[0]


def follow(follower: Follower) -> None:
    """Let a function of an app above be called for every change of a workflow from now on."""
    if follower not in _followers:
        _followers.append(follower)


def changed(change: Change) -> None:
    """Call all that follow the changes of workflows, in the order in which they began to."""
    for follower in _followers:
        follower(change)
