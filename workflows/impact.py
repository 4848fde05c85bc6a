"""The impact of a change of a workflow: the workflows that call it, and its active runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Exists, OuterRef, Q

from plugins.discovery import discover
from pyflow.documents.node_keys import NodeKind, kind_of
from workflows.dependents import dependents
from workflows.models import Version, VersionState, Workflow


@dataclass(frozen=True, slots=True)
class Caller:
    """A node of another workflow's current version (or of its own) that runs the workflow."""

    workflow: str
    version: int
    node: str


def callers_of(workflow: Workflow) -> list[Caller]:
    """List the nodes that run a workflow as a child, by name; names computed by templates are not found."""
    called = {workflow.name, str(workflow.pk)}
    mentions = Q()
    for name in called:
        # Definitions are stored compactly: this is how a config that names the workflow reads.
        mentions |= Q(definition__contains=f'"workflow":{json.dumps(name, ensure_ascii=False)}')
    published = Version.objects.for_tenant(workflow.tenant_id).filter(state=VersionState.PUBLISHED)
    newer = published.filter(workflow=OuterRef("workflow"), publication__gt=OuterRef("publication"))
    rows = published.filter(mentions, ~Exists(newer), workflow__archived_at=None).order_by("workflow__name")
    found = rows.values_list("workflow__name", "number", "definition")
    return [
        Caller(name, number, node)
        for name, number, definition in found
        for node in _calling(json.loads(definition), called)
    ]


def runs_in_flight(workflow: Workflow) -> dict[int, int]:
    """Count the active runs by the number of their version: they keep it, whatever is published."""
    return dependents().in_flight(tenant_id=workflow.tenant_id, workflow_id=workflow.pk)


def _calling(definition: Mapping[str, Any], called: set[str]) -> Iterator[str]:
    for section in ("nodes", "on_failure", "finally"):
        for node in definition.get(section, ()):
            if any(_calls(part, called) for part in (node, node.get("compensate") or {})):
                yield node["id"]


def _calls(node: Mapping[str, Any], called: set[str]) -> bool:
    node_type, registry = node.get("type", ""), discover().registry
    if node_type not in registry or kind_of(registry.get(node_type)) is not NodeKind.WORKFLOW:
        return False
    return node.get("config", {}).get("workflow") in called
