"""What an executor would have written about a run, through its own writer, without executing anything."""

import time
from typing import Any

from pyflow.core.events import Event, EventType
from pyflow.core.states import NodeState
from runs.models import Run
from runs.queue.leases import Claim, claim
from runs.storage.writer import Write, moment, store

OWNER = "a test"


def record(run: Run, output: Any = "Hello Ada", outputs: Any = None, node_id: str = "greet") -> None:
    """A run of one node, from its claim to its success: events 2 to 5."""
    [claimed] = claim(OWNER, 1, run.pk)
    now = time.time()
    write = new_write(claimed)
    write.events = [
        event(claimed, EventType.RUN_STARTED, None, {"state": "running"}),
        event(claimed, EventType.NODE_STARTED, node_id, {"attempt": 1, "type": "transform"}),
        event(claimed, EventType.NODE_SUCCEEDED, node_id, {"attempt": 1, "output": output}),
        event(claimed, EventType.RUN_SUCCEEDED, None, {"state": "succeeded", "outputs": outputs}),
    ]
    write.nodes = {node_id: succeeded(output)}
    write.changes = {
        "state": "succeeded",
        "outputs": outputs,
        "started_at": moment(now),
        "finished_at": moment(now),
        "owner": "",
        "lease_until": None,
    }
    assert store([write]) == set()


def new_write(claimed: Claim) -> Write:
    """An empty write of a claim."""
    return Write(claimed.run_id, claimed.tenant_id, claimed.epoch, claimed.parent_id)


def event(claimed: Claim, type: EventType, node_id: str | None = None, data: dict[str, Any] | None = None) -> Event:
    """An event of a claimed run, now."""
    return Event(type, str(claimed.run_id), claimed.workflow_name, 0, time.time(), node_id, data or {})


def succeeded(output: Any) -> dict[str, Any]:
    """The row of a node that succeeded."""
    now = moment(time.time())
    return {
        "state": NodeState.SUCCEEDED.value,
        "attempts": 1,
        "round": 1,
        "earlier_attempts": 0,
        "output": output,
        "output_ref": None,
        "error": None,
        "reason": "",
        "tolerated": False,
        "started_at": now,
        "finished_at": now,
        "wake_at": None,
        "wait": None,
        "progress": None,
    }
