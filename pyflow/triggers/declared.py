"""The triggers that a workflow declares, each with the id that is its own in the workflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyflow.core.document import Path
from pyflow.documents.models import TriggerDef, WorkflowDef


@dataclass(frozen=True, slots=True)
class DeclaredTrigger:
    """A trigger of a workflow and its place in the document.

    ``id`` is the one it was given or else its type, with a number where an earlier trigger has that id.
    """

    id: str
    type: str
    config: Mapping[str, Any]
    path: Path


def triggers_of(workflow: WorkflowDef) -> list[DeclaredTrigger]:
    """List the triggers of a workflow in their order."""
    return _named(workflow.trigger, workflow.triggers)


def triggers_of_canonical(definition: Mapping[str, Any]) -> list[DeclaredTrigger]:
    """List the triggers of a stored definition (``WorkflowDef.canonical``) without reading the rest of it."""
    one = definition.get("trigger")
    many = [TriggerDef.model_validate(item) for item in definition.get("triggers", ())]
    return _named(None if one is None else TriggerDef.model_validate(one), many)


def _named(one: TriggerDef | None, many: list[TriggerDef]) -> list[DeclaredTrigger]:
    placed: list[tuple[TriggerDef, Path]] = [(trigger, ("triggers", i)) for i, trigger in enumerate(many)]
    if one is not None:
        placed.insert(0, (one, ("trigger",)))
    taken = {trigger.id for trigger, _ in placed if trigger.id is not None}
    found: list[DeclaredTrigger] = []
    for trigger, path in placed:
        name = trigger.id
        if name is None:
            name = next(each for each in _names(trigger.type, len(placed)) if each not in taken)
            taken.add(name)
        found.append(DeclaredTrigger(name, trigger.type, trigger.config, path))
    return found


def _names(type: str, count: int) -> list[str]:
    return [type, *(f"{type}-{number}" for number in range(2, 2 * count + 2))]
