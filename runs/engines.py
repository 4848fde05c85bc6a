"""The engines that execute the runs of this process, one a tenant, and what nodes may reach."""

from __future__ import annotations

from functools import cache
from uuid import UUID

from django.conf import settings

from plugins.discovery import discover
from pyflow.core.addresses import NetworkPolicy, current_policy
from pyflow.core.engine import WorkflowEngine
from pyflow.core.files import current_root
from pyflow.core.plain import plain_output
from runs.leases import Claim


class Engines:
    """Each tenant's engine: concurrency slots and cached results are its own."""

    def __init__(self) -> None:
        self._engines: dict[UUID, WorkflowEngine] = {}

    def enter(self, claimed: Claim) -> WorkflowEngine:
        """The engine for a claimed run; what is executed from here on is confined to what its tenant may use."""
        current_root.set(settings.PYFLOW_STORAGE_ROOT / str(claimed.tenant_id))
        current_policy.set(network_policy())
        engine = self._engines.get(claimed.tenant_id)
        if engine is None:
            engine = self._engines[claimed.tenant_id] = WorkflowEngine(discover().registry, middleware=(plain_output,))
        return engine


@cache
def network_policy() -> NetworkPolicy:
    """What workflows of this installation may reach: the public internet and what the operator lists."""
    return NetworkPolicy.of(settings.PYFLOW_ALLOWED_NETWORKS, permit_private_networks=False)
