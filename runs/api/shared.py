"""Views of what belongs to a workflow: what is shared of the workflow is shared of that."""

from __future__ import annotations

from runs.services.find import workflow_of_run
from tenants.api.views import TenantView
from workflows.models import Workflow
from workflows.services import workflow_or_none


class OfWorkflow(TenantView):
    """Something of the workflow ``name``."""

    def shared_object(self) -> Workflow | None:
        """The workflow may have been shared with who asks."""
        return workflow_or_none(tenant_id=self.principal.tenant_id, name=self.kwargs["name"])


class OfRun(TenantView):
    """Something of the run ``run_id``."""

    def shared_object(self) -> Workflow | None:
        """The run's workflow may have been shared with who asks."""
        return workflow_of_run(tenant_id=self.principal.tenant_id, run_id=self.kwargs["run_id"])
