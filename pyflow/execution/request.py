"""Arguments of an execution: the request (workflow, input, record) and the services that it may use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyflow.core.children import ChildRuns
from pyflow.core.ports import Clock, EventSink, SecretSource
from pyflow.core.result import NodeRun
from pyflow.core.suspension import Signal
from pyflow.documents.models import WorkflowDef
from pyflow.execution.middleware import Handler
from pyflow.execution.plan import Plan
from pyflow.execution.remote import RemoteNodes
from pyflow.execution.shared import Shared, SlotSource


@dataclass(frozen=True, slots=True)
class RunRequest:
    """The run to execute.

    ``run_id``: default a new one. ``input`` is checked against the workflow's ``inputs`` (``InputError``).
    ``initial_context`` is stored like results. ``recorded``: node runs to go on from, by node id. ``only``: the other
    nodes are skipped. ``signals``: those that arrived already. ``lineage``: names of the workflows above, of a child
    run. ``begun_at``: when the run first began (POSIX seconds), for its timeout. ``park``: end in state ``waiting``
    instead of waiting when nothing else is left to do.
    """

    workflow: WorkflowDef | Plan
    run_id: str | None = None
    input: Mapping[str, Any] | None = None
    initial_context: Mapping[str, Any] | None = None
    recorded: Mapping[str, NodeRun] = field(default_factory=dict)
    only: frozenset[str] | None = None
    signals: Iterable[Signal] = ()
    lineage: tuple[str, ...] = ()
    begun_at: float | None = None
    park: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunServices:
    """Services of an execution. An engine has its own in ``services``; ``dataclasses.replace`` changes some for a run.

    ``sink`` receives the events. ``clock`` and ``secrets``: where time and ``{{ secrets.X }}`` come from. ``children``
    runs child runs. ``shared``: the cached results of several runs, and their concurrency slots unless ``slots`` says
    otherwise. ``remote`` executes the nodes that have a `queue`, or all with `distribute`; ``None``: like all others.
    ``handler``: the composed middleware; ``makes_plain``: outputs are made plain JSON around it, not by a layer of it.
    """

    sink: EventSink
    clock: Clock
    secrets: SecretSource | None
    children: ChildRuns
    shared: Shared
    slots: SlotSource | None = None
    remote: RemoteNodes | None = None
    handler: Handler | None = None
    makes_plain: bool = True

    @property
    def slot_source(self) -> SlotSource:
        """Return the source of concurrency slots."""
        return self.slots or self.shared.slots
