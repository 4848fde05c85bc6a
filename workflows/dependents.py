"""Port for apps above that depend on workflows: they register when they start, and this app asks them."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID


class Dependents(Protocol):
    """The runs of workflows."""

    def exist(self, *, tenant_id: UUID, workflow_id: UUID) -> bool:
        """Return whether the workflow has runs, finished or not."""

    def in_flight(self, *, tenant_id: UUID, workflow_id: UUID) -> dict[int, int]:
        """Count the runs that have not ended, by the number of their version."""

    def delete(self, *, tenant_id: UUID, workflow_id: UUID) -> None:
        """Delete all runs of the workflow, none of which is in flight."""


_attached: list[Dependents] = []


def attach(dependents: Dependents) -> None:
    """Let those be asked from now on."""
    _attached[:] = [dependents]


def dependents() -> Dependents:
    """Return the registered dependents; before all apps are loaded there are none (``IndexError``)."""
    return _attached[0]
