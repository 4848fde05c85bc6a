"""The engines that execute the runs of this process, one a tenant, and what nodes may reach."""

from __future__ import annotations

import asyncio
import decimal
import logging
from functools import partial
from typing import TypeVar
from uuid import UUID

from django.conf import settings

from plugins.discovery import discover
from pyflow.core.suspension import Suspension
from pyflow.execution.engine import WorkflowEngine
from pyflow.execution.middleware import Handler, Middleware, NodeCall, plain_output
from pyflow.net.addresses import current_policy
from pyflow.net.files import current_quota, current_root, used_bytes
from runs.errors import ValueRefusedError
from runs.network import network_policy
from runs.queue.leases import Claim
from runs.storage import values
from runs.storage.reader import Call, answered
from runs.worker.process_settings import ProcessSettings
from tenants import quotas
from tenants.errors import QuotaExceededError
from tenants.plans import Quota

logger = logging.getLogger(__name__)
ResultT = TypeVar("ResultT")


class Engines:
    """Each tenant's engine: concurrency slots and cached results are its own."""

    def __init__(self, call: Call) -> None:
        """``call`` runs a function on the executor's database thread."""
        self._call = call
        #: As they are before any node is executed here.
        self._settings: ProcessSettings | None = None
        self._engines: dict[UUID, WorkflowEngine] = {}

    def enter(self, claimed: Claim) -> WorkflowEngine:
        """The engine for a claimed run; what is executed from here on is confined to what its tenant may use."""
        current_root.set(settings.PYFLOW_STORAGE_ROOT / str(claimed.tenant_id))
        current_policy.set(network_policy())
        # Tasks inherit the very object of their thread: what a node changes in it would hold for every run.
        decimal.setcontext(decimal.getcontext().copy())
        engine = self._engines.get(claimed.tenant_id)
        if engine is None:
            registry = discover().registry
            self._settings = self._settings or ProcessSettings()
            guard = self._settings.guard(registry)
            middleware = (within_quota(claimed.tenant_id, self._call), plain_output, guard)
            engine = self._engines[claimed.tenant_id] = WorkflowEngine(registry, middleware=middleware)
        return engine

    def close(self) -> None:
        """Put the settings of the process back for the last time."""
        if self._settings is not None:
            self._settings.restore()
            self._settings.close()


def within_quota(tenant_id: UUID, call: Call) -> Middleware:
    """Fails a node whose output is large and has no room in the tenant's quota of stored bytes.

    What is made at the same time may go beyond it, and so may the list that a fan-out's outputs make: they are counted
    when they are stored, and the next one is refused.
    """

    root = settings.PYFLOW_STORAGE_ROOT / str(tenant_id)

    async def check(node_call: NodeCall, next_handler: Handler) -> object:
        if node_call.node.traits.may_write_files(node_call.config):
            current_quota.set(await answered(call, partial(quotas.room_for_files, tenant_id=tenant_id)))
        output = await next_handler(node_call)
        if output is None or isinstance(output, bool | int | float | Suspension):
            return output
        content = values.content_of(output)
        if values.is_large(content):
            try:
                if await answered(call, quotas.limit_of, tenant_id, Quota.STORED_BYTES) is not None:
                    # A tenant may have very many files: adding them up takes no time of the event loop's.
                    wanted = len(content) + await asyncio.to_thread(used_bytes, root)
                    await answered(call, partial(quotas.check_stored_bytes, tenant_id=tenant_id, wanted=wanted))
            except QuotaExceededError as error:
                raise ValueRefusedError(str(error)) from None
        return output

    return check
