"""An executor that was replaced writes nothing: whatever it still does for its run names an epoch that is over."""

import ast
import inspect
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from pyflow.core.events import EventType
from runs.errors import FencedError
from runs.models import NodeTask, Run
from runs.queue.leases import Claim, claim, release, renew
from runs.queue.node_tasks import insert_tasks
from runs.queue.slots import Ticket, enter, enter_run
from runs.services.end import WORKER_LOST, end_run
from runs.services.retry import retry_run
from runs.services.start_child import ChildStarts
from runs.services.stop_children import stop_children, stop_orphans
from runs.storage.writer import store
from runs.worker import executor
from tests.support.factories import records
from tests.support.factories.children import request_of, start_child
from tests.support.factories.nodes import workflow
from tests.support.factories.rows import make_run, make_tenant, make_workflow
from tests.support.processes.running import operator, send
from tests.support.tables import rows_of

pytestmark = pytest.mark.database
OLD = "the old executor"


def facts(old: Claim) -> None:
    """All that the group writer knows of: events with progress, nodes, items, log, marks of secrets, signals."""
    write = records.new_write(old)
    write.events = [records.event(old, EventType.NODE_STARTED, "call", {"attempt": 1})]
    write.nodes = {"call": records.succeeded(1)}
    write.items = {("call", 0): {"key": "0", "state": "succeeded", "attempts": 1, "output": 1, "output_ref": None}}
    write.items["call", 0] |= {
        "round": 1,
        "earlier_attempts": 0,
        "error": None,
        "wake_at": None,
        "wait": None,
        "started_at": timezone.now(),
        "at": timezone.now(),
    }
    write.log = [{"seq": 1, "node_id": "call", "attempt": 1, "item": None, "level": 20, "at": timezone.now()}]
    write.log[0]["message"] = "still here"
    write.signals = ["early"]
    write.value_bytes = 10
    write.changes = {"secrets_used": ["a"], "log_lines": 1}
    if store([write]):
        raise FencedError("the facts")


def ticket(old: Claim, epoch: int | None, on_limit: str = "queue") -> Ticket:
    place = {"tenant_id": old.tenant_id, "run_id": old.run_id, "node_id": "call" if epoch is not None else ""}
    return Ticket(key="k", limit=1, on_limit=on_limit, priority=5, run_epoch=epoch, **place)


def ask_for_a_task(old: Claim) -> None:
    row = NodeTask(
        tenant_id=old.tenant_id, run_id=old.run_id, run_epoch=old.epoch, node_id="call", places=[[1, 0, None]]
    )
    insert_tasks(old, [row], {row.pk})


def start_another_child(old: Claim) -> None:
    run = Run.objects.across_tenants().get(pk=old.run_id)
    ChildStarts(old.run_id, old.tenant_id, old.epoch).start(request_of(run, "call", None, 2))


def find_its_child(old: Claim) -> None:
    start_child(Run.objects.across_tenants().get(pk=old.run_id), epoch=old.epoch)


def fenced(written: object) -> None:
    if not written:
        raise FencedError("nothing was written")


PARENT = (
    "{id: call, type: workflow, config: {workflow: child}}",
    "{id: early, type: signal, depends_on: [call], config: {name: early}}",
)
#: Each write on an executor's behalf, by what it is called in the documentation.
WRITES: dict[str, Callable[[Claim], object]] = {
    "facts of the run": facts,
    "a child run": start_another_child,
    "a child run that it had started": find_its_child,
    "a stop of its children": lambda old: stop_children(parent_id=old.run_id, epoch=old.epoch),
    "a node task": ask_for_a_task,
    "a slot of a node": lambda old: enter(ticket(old, old.epoch)),
    "a slot of a node that takes another's": lambda old: enter(ticket(old, old.epoch, "cancel_oldest")),
    "the slot of the run": lambda old: enter_run(ticket(old, None), old.epoch),
    "an end": lambda old: fenced(end_run(run_id=old.run_id, epoch=old.epoch, ending=WORKER_LOST)),
    "a renewal": lambda old: fenced(renew(OLD, [(old.run_id, old.epoch)])),
    "a hand-back": lambda old: fenced(release(OLD, [(old.run_id, old.epoch)])),
}


def taken_over(run: Run) -> None:
    past = timezone.now() - timedelta(seconds=1)
    Run.objects.across_tenants().filter(pk=run.pk).update(lease_until=past)
    assert claim("the new executor", 1, run.pk)


def terminated(run: Run) -> None:
    end_run(run_id=run.pk, ending=WORKER_LOST)


def taken_up_again(run: Run) -> None:
    terminated(run)
    retry_run(by=operator(run), run_id=run.pk)


def handed_back(run: Run) -> None:
    release(OLD, [(run.pk, 1)])


def claimed_again_by_itself(run: Run) -> None:
    handed_back(run)
    assert claim(OLD, 1, run.pk)


@pytest.mark.parametrize("replace", [taken_over, terminated, taken_up_again, handed_back, claimed_again_by_itself])
@pytest.mark.parametrize("write", WRITES)
def test_an_executor_that_was_replaced_writes_nothing(tenant, write: str, replace: Callable[[Run], None]):
    make_workflow(tenant, workflow("{id: paid, type: signal, config: {name: paid}}", name="child"))
    run = make_run(tenant, workflow(*PARENT, name="parent"))
    holder = make_run(make_tenant())
    [other] = claim("another executor", 1, holder.pk)
    assert enter(ticket(other, other.epoch))
    [old] = claim(OLD, 1, run.pk)
    start_child(run, epoch=old.epoch)
    send(run, "early", 1, "early")
    replace(run)
    before = rows_of("runs", "tenants")
    with pytest.raises(FencedError):
        WRITES[write](old)
    assert rows_of("runs", "tenants") == before
    stop_orphans()


@pytest.mark.breaks_invariant("rows_of_nodes_say_what_events_say", reason="the rows are examples of what is written")
def test_what_an_executor_may_still_write_is_accepted(tenant):
    """The same writes count while the epoch lasts: the table above holds because of the epoch."""
    for write in (name for name in WRITES if name != "a slot of a node that takes another's"):
        make_workflow(tenant, workflow("{id: paid, type: signal, config: {name: paid}}", name="child"))
        run = make_run(tenant, workflow(*PARENT, name="parent"))
        [old] = claim(OLD, 1, run.pk)
        start_child(run, epoch=old.epoch)
        before = rows_of("runs")
        WRITES[write](old)
        assert (rows_of("runs") != before) == (write not in {"a child run that it had started"}), write
    stop_orphans()


CALLS = {"answered", "self._call", "self._lease", "call", "self._shared.call", "self._shared.call_slots"}
#: What executors have done on their database threads, besides the writes above.
READS = {
    "news", "held_by", "values.load", "read_outcomes", "states_of_tickets", "displaced_runs", "_read", "_results",
    "quotas.check_stored_bytes", "quotas.limit_of", "quotas.room_for_files",
}  # fmt: skip
#: Writes of rows that carry the epoch themselves, or that are a task's or a process's own.
OWN = {
    "leave": "a slot of the asking epoch is given back",
    "leave_run": "only that of a run that has ended",
    "delete_tasks": "tasks of the asking epoch",
    "finish_task": "names the epoch of the task",
    "report_task": "names the epoch of the task",
    "release_tasks": "names the owner of the task",
    "renew_tasks": "names the owner of the task",
    "clear_losses_of_tasks": "takes a loss back, of whoever's task",
    "clear_losses": "takes a loss back, of whoever's run",
    "values.put": "a file that is named by its content; no row refers to it before a fenced write does",
    "values.outsource": "as `values.put`",
    "_forget": "the file of an input, after the fenced write that ended the run",
}
FENCED = {
    "_starts.start", "_stop", "stop_children", "insert_tasks", "enter", "enter_run", "end_run", "renew", "release",
}  # fmt: skip
#: These begin an epoch, or wait for a process.
OTHERS = {"_claim", "_take", "_pass_on", "_quarantine.wait"}


def test_every_call_on_an_executors_thread_is_known_to_the_fence():
    """A new one is put among the writes above, or it is said why it needs no fence."""
    called: set[str] = set()
    for path in Path(inspect.getfile(executor)).parent.glob("*.py"):
        for found in ast.walk(ast.parse(path.read_text())):
            if isinstance(found, ast.Call) and ast.unparse(found.func) in CALLS:
                asked = found.args[1 if ast.unparse(found.func) == "answered" else 0]
                if isinstance(asked, ast.Call) and ast.unparse(asked.func) == "partial":
                    asked = asked.args[0]
                called.add(ast.unparse(asked).removeprefix("self."))
    assert called == READS | OWN.keys() | FENCED | OTHERS
