"""Reads inputs and outputs of runs, from the row or from the value storage."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from runs.models import NodeItem, NodeRun, Run
from runs.storage import values
from runs.storage.values import Owner, Reference


def input_of(run: Run) -> dict[str, Any]:
    """A run's input. Raises ``ValueMissingError`` or ``ValueCorruptError``, as all of these do."""
    found: dict[str, Any] = _value(run.tenant_id, run.pk, run.input, run.input_ref)
    return found


def outputs_of(run: Run) -> Any:
    """A run's outputs; ``None`` if it has none (yet)."""
    return _value(run.tenant_id, run.pk, run.outputs, run.outputs_ref)


def output_of(row: NodeRun | NodeItem) -> Any:
    """The output of a node or of an item of a fan-out."""
    return _value(row.tenant_id, row.run_id, row.output, row.output_ref)


def _value(tenant_id: UUID, run_id: UUID, value: Any, reference: Any) -> Any:
    found = Reference.of(reference)
    return value if found is None else values.load(Owner(tenant_id, run_id), found)
