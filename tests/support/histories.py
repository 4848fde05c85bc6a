"""What must be true of every finished run, however often its executors were killed."""

from collections import Counter
from collections.abc import Collection

from runs.models import EventRecord, NodeRun, Run
from tests.support.servers.ledger import Call


def assert_is_whole(run: Run, nodes: Collection[str], state: str = "succeeded") -> None:
    """Events are numbered 1 to n, begin and end once; each node succeeded once and has one row."""
    run.refresh_from_db()
    events = list(EventRecord.objects.across_tenants().filter(run=run).order_by("seq"))
    assert run.state == state, (run.error, [str(event) for event in events])
    assert [event.seq for event in events] == list(range(1, run.event_seq + 1))
    types = Counter(event.type for event in events)
    assert 1 <= types["run.queued"] <= 1 + types["run.paused"]
    assert events[0].type == "run.queued"
    assert types[f"run.{state}"] == 1
    assert events[-1].type == f"run.{state}"
    assert Counter(event.node_id for event in events if event.type == "node.succeeded") == dict.fromkeys(nodes, 1)
    rows = {row.node_id: row.state for row in NodeRun.objects.across_tenants().filter(run=run)}
    assert rows == dict.fromkeys(nodes, "succeeded")
    assert (run.owner, run.lease_until) == ("", None)


def assert_no_completed_node_was_called_again(run: Run, calls: Collection[Call]) -> None:
    """Every call of a node came before the one event that recorded its result."""
    ends = {
        event.node_id: event.at.timestamp()
        for event in EventRecord.objects.across_tenants().filter(run=run, type="node.succeeded")
    }
    late = [call for call in calls if call.run == str(run.pk) and call.at > ends[call.node]]
    assert late == []
