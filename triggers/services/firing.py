"""Start a run for a trigger, and record in the log that it fired, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.utils import timezone

from pyflow.core.events import EventType
from pyflow.expressions.template import compile_value
from pyflow.expressions.values import LITERALS
from runs.models import Trigger
from runs.services.start import Start, Started, start_run
from runs.storage.log import append_outside
from tenants.access import Actor
from workflows.models import Workflow


@dataclass(frozen=True, slots=True, kw_only=True)
class Firing:
    """One firing of a trigger.

    ``key``: the workflow has one run of each, however often it is fired. ``data``: of the event `trigger.fired`,
    besides ``{trigger, kind, run_id}``.
    """

    tenant_id: UUID
    workflow: Workflow
    kind: Trigger
    trigger: str
    input: Mapping[str, Any]
    key: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


def fire(firing: Firing) -> Started:
    """Start a run of the latest published version, unless there is one with the key; call it in a transaction.

    Raises what ``start_run`` does.
    """
    by = Actor.system(firing.tenant_id, f"{firing.kind}:{firing.trigger}")
    start = Start(input=firing.input, key=firing.key)
    started = start_run(by=by, workflow_name=str(firing.workflow.pk), start=start, trigger=firing.kind)
    if started.created:
        run = started.run
        append_outside(
            tenant_id=firing.tenant_id,
            type=EventType.TRIGGER_FIRED.value,
            at=timezone.now(),
            data={"trigger": firing.trigger, "kind": firing.kind.value, "run_id": str(run.pk), **firing.data},
            workflow_name=firing.workflow.name,
            version_number=run.version.number,
            key=fired_key(run.pk),
        )
    return started


def fired_key(run_id: UUID) -> str:
    """The key of the event `trigger.fired` of a run: by it the log tells how the run was started."""
    return f"fired:{run_id}"


def rendered(template: Any, names: Mapping[str, Any]) -> Any:
    """Render the templates of a nested value over names; raises ``TemplateError``."""
    return compile_value(template, typed=True, where="input").render({**LITERALS, **names})
