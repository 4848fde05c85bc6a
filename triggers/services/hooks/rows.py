"""Rows of inbound webhooks: derived from published versions, found for the API."""

from __future__ import annotations

from uuid import UUID

from django.db import IntegrityError, models, transaction
from django.db.models import OuterRef, Subquery
from pydantic import ValidationError

from pyflow.documents.models import WorkflowDef
from pyflow.triggers.declared import triggers_of
from pyflow.triggers.hooks import WebhookConfig
from triggers.errors import HookMissingError, HookPathTakenError
from triggers.models import HookDelivery, InboundHook
from workflows.models import Version, Workflow
from workflows.services import plan_of


def sync_hooks(workflow: Workflow, version: Version | None) -> None:
    """Make the webhooks of a workflow those that ``version`` declares. Raises ``HookPathTakenError``.

    A webhook that keeps its trigger's id keeps its deliveries and counters.
    """
    declared = {} if version is None else declared_hooks(plan_of(version).workflow)
    rows = InboundHook.objects.for_tenant(workflow.tenant_id).filter(workflow=workflow)
    rows.exclude(trigger__in=declared).delete()
    if version is None or not declared:
        return
    known = {row.trigger: row for row in rows}
    _check_free(workflow, [config.path for config in declared.values()])
    moved = [row for trigger, row in known.items() if row.path != declared[trigger].path]
    for row in moved:  # two may have swapped their paths
        rows.filter(pk=row.pk).update(path=str(row.pk), address=str(row.pk))
    slug = workflow.tenant.slug
    for trigger, config in declared.items():
        row = known.get(trigger) or InboundHook(tenant_id=workflow.tenant_id, workflow=workflow, trigger=trigger)
        row.version, row.path, row.address = version.number, config.path, address_of_hook(slug, config.path)
        row.config = config.model_dump(mode="json", exclude_defaults=True)
        try:
            with transaction.atomic():
                row.save()
        except IntegrityError:  # another workflow was quicker
            _check_free(workflow, [config.path])
            raise


def declared_hooks(definition: WorkflowDef) -> dict[str, WebhookConfig]:
    """Return the configs of webhooks by the ids of their triggers.

    Those of version 1 only where they say how to verify.
    """
    found = {}
    for trigger in triggers_of(definition):
        if trigger.type != "webhook":
            continue
        try:
            found[trigger.id] = WebhookConfig.model_validate(dict(trigger.config))
        except ValidationError:  # of version 1, or from before webhooks were checked
            continue
    return found


def address_of_hook(slug: str, path: str) -> str:
    """The address that requests name a hook by, below ``/hooks/``."""
    return f"{slug}/{path}"


def find_hook(*, tenant_id: UUID, hook_id: UUID) -> InboundHook:
    """A tenant's webhook with its workflow. Raises ``HookMissingError``."""
    hook = hooks_of(tenant_id).filter(pk=hook_id).first()
    if hook is None:
        raise HookMissingError(f"There is no inbound webhook {hook_id}.")
    return hook


def hooks_of(tenant_id: UUID) -> models.QuerySet[InboundHook]:
    """The webhooks of a tenant with their workflows, and the time of the last delivery as ``delivered_at``."""
    rows = InboundHook.objects.for_tenant(tenant_id).select_related("workflow")
    newest = HookDelivery.objects.for_tenant(tenant_id).filter(hook=OuterRef("pk")).order_by("-received_at")
    return rows.annotate(delivered_at=Subquery(newest.values("received_at")[:1]))


def deliveries_of(hook: InboundHook) -> models.QuerySet[HookDelivery]:
    """The recorded deliveries of a webhook."""
    return HookDelivery.objects.for_tenant(hook.tenant_id).filter(hook=hook)


def _check_free(workflow: Workflow, paths: list[str]) -> None:
    others = InboundHook.objects.for_tenant(workflow.tenant_id).exclude(workflow=workflow).filter(path__in=paths)
    taken = others.select_related("workflow").order_by("path").first()
    if taken is not None:
        raise HookPathTakenError(
            f"The webhook path {taken.path!r} belongs to the trigger {taken.trigger!r} of the workflow "
            f"{taken.workflow.name!r}. A path has one webhook in a tenant: choose another one."
        )
