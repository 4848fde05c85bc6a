"""The large values of one run that is executed: stored apart before they are recorded, and brought back after that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from pyflow.core import result
from pyflow.core.errors import PyFlowError
from pyflow.core.events import Event, EventType
from pyflow.execution.remote import Outcome
from pyflow.isolation.errors import describe_error
from runs.models import NodeItem, NodeRun
from runs.queue.leases import Claim
from runs.storage import values
from runs.storage.values import Owner, Reference

Submit = Callable[..., Future[Any]]
#: Where an event has what a node, or the run, came to.
_PLACES = {EventType.NODE_SUCCEEDED: "output", EventType.RUN_SUCCEEDED: "outputs"}


class RunValues:
    """The large values of one claimed run. ``submit`` has a function executed on a thread that serves only this.

    Small ones cost the measuring: neither a thread nor a file.
    """

    def __init__(self, claim: Claim, submit: Submit) -> None:
        self._owner = Owner(claim.tenant_id, claim.run_id)
        self._submit = submit

    async def outsource(self, event: Event) -> None:
        """Have the value of an event stored, if it is large: the event has a reference in its place then."""
        if (content := _large(event)) is not None:
            self._replace(event, await self._call(values.put, self._owner, content))

    def outsource_now(self, event: Event) -> None:
        """Store a value as ``outsource`` does, on this thread: for events that no coroutine waits for."""
        if (content := _large(event)) is not None:
            self._replace(event, values.put(self._owner, content))

    @staticmethod
    def _replace(event: Event, reference: Reference | None) -> None:
        if reference is not None:
            place = _PLACES[event.type]
            del event.data[place]
            event.data[f"{place}_ref"] = reference.as_dict()

    async def put(self, value: Any) -> tuple[Any, Reference | None]:
        stored: tuple[Any, Reference | None] = await self._call(values.outsource, self._owner, value)
        return stored

    async def load(self, reference: Reference) -> Any:
        return await self._call(values.load, self._owner, reference)

    async def forget(self, reference: Reference) -> None:
        """Remove a value, unless it is a node's output as well."""
        await self._call(_forget, self._owner, reference)

    async def send(self, outcome: Outcome) -> Outcome:
        """The outcome of an attempt for another process: with a reference in the place of an output that is large."""
        if "output" not in outcome:
            return outcome
        content = values.content_of(outcome["output"])
        reference = await self._call(values.put, self._owner, content) if values.is_large(content) else None
        if reference is None:
            return outcome
        return {name: value for name, value in outcome.items() if name != "output"} | {
            "output_ref": reference.as_dict()
        }

    async def receive(self, outcome: Outcome) -> Outcome:
        """Return the outcome as it was before ``send``. A value that is gone is a failure of the attempt."""
        reference = Reference.of(outcome.get("output_ref"))
        if reference is None:
            return outcome
        try:
            return {"output": await self.load(reference)}
        except (PyFlowError, OSError) as error:
            return {"error": describe_error(error)}

    async def fill(self, recorded: Mapping[str, result.NodeRun]) -> None:
        """Put the values in the place of the references that node runs have on record. Raises as ``load`` does."""
        for run in recorded.values():
            await self._fill(run)
            for item in (run.items or {}).values():
                await self._fill(item)

    async def _fill(self, record: result.NodeRun | result.ItemRun) -> None:
        if isinstance(record.output, Reference):
            record.output = await self.load(record.output)

    async def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.wrap_future(self._submit(function, *args))


def _forget(owner: Owner, reference: Reference) -> None:
    of_run = {"run": owner.run_id, "output_ref__sha256": reference.sha256}
    models = (NodeRun, NodeItem)
    if not any(model.objects.for_tenant(owner.tenant_id).filter(**of_run).exists() for model in models):
        values.delete(owner, reference)


def _large(event: Event) -> bytes | None:
    """The JSON of the value of an event, if it is large."""
    place = _PLACES.get(event.type)
    if place is None or event.data.get(place) is None:
        return None
    content = values.content_of(event.data[place])
    return content if values.is_large(content) else None
