"""What depends on workflows in the apps above, which this one does not know: they attach themselves when they start."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID


class Dependents(Protocol):
    """The runs of workflows."""

    def exist(self, *, tenant_id: UUID, workflow_id: UUID) -> bool:
        """Whether the workflow has runs, finished or not."""

    def in_flight(self, *, tenant_id: UUID, workflow_id: UUID) -> dict[int, int]:
        """How many runs have not ended, by the number of their version."""

    def delete(self, *, tenant_id: UUID, workflow_id: UUID) -> None:
        """Delete all runs of the workflow, none of which is in flight."""


_attached: list[Dependents] = []


def attach(dependents: Dependents) -> None:
    """Let those be asked from now on."""
    _attached[:] = [dependents]


def dependents() -> Dependents:
    """Those who are to be asked; there are none before all apps are loaded (``IndexError``)."""
    return _attached[0]
