"""Child runs as an executor starts them, without one."""

from uuid import UUID

from pyflow.core.children import ChildConfig, ChildRequest, child_id
from runs.models import Run
from runs.services.start_child import ChildStarts


def request_of(
    parent: Run,
    node_id: str = "call",
    item: str | None = None,
    attempt: int = 1,
    *,
    workflow: str = "child",
    **config: object,
) -> ChildRequest:
    """What an attempt of a node of ``parent`` asks for."""
    run_id = child_id(str(parent.pk), node_id, item, attempt)
    wanted = ChildConfig.model_validate({"workflow": workflow, **config})
    return ChildRequest(run_id, wanted, str(parent.pk), node_id, (parent.workflow.name,), item, attempt)


def executed(parent: Run) -> Run:
    """``parent`` as some executor has it, that this test stands for."""
    Run.objects.across_tenants().filter(pk=parent.pk).update(state="running")
    parent.refresh_from_db()
    return parent


def start_child(parent: Run, *place: object, epoch: int | None = None, **config: object) -> Run:
    """The child run of an attempt of a node, which the executor of ``parent`` starts (or that of an earlier epoch)."""
    starts = ChildStarts(parent.pk, UUID(str(parent.tenant_id)), parent.epoch if epoch is None else epoch)
    return starts.start(request_of(parent, *place, **config))  # type: ignore[arg-type]
