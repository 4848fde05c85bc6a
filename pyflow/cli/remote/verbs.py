"""Commands that act on runs: `cancel`, `terminate`, `pause`, `resume`, `retry`, `rerun`, `signal` and `explain`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from pyflow.cli.console import ExitCode, err, fail, out, out_json, table
from pyflow.cli.remote.connection import Format, FormatOption, ProfileOption, connected
from pyflow.cli.remote.display import approvals_table, explanation_text, run_line
from pyflow.cli.remote.runs import (
    InputOption,
    LabelOption,
    RunArgument,
    StateOption,
    WatchOption,
    WorkflowOption,
    filters,
    show_run,
)
from pyflow.cli.values import read_input, read_value

if TYPE_CHECKING:
    from pyflow_client import ActionResult, Client, StateVerb

#: The server takes so many runs at once.
_AT_ONCE = 100
RunsArgument = Annotated[
    list[UUID] | None, typer.Argument(metavar="RUN…", help="Run ids. Use filters instead to select many runs.")
]
YesOption = Annotated[
    bool, typer.Option("--yes", "-y", help="Do not ask for confirmation before acting on all matching runs.")
]


def explain(run_id: RunArgument, profile: ProfileOption = None, format: FormatOption = "table") -> None:
    """Explain a run: what it and its nodes wait for, the first failure, and the possible actions."""
    with connected(profile) as client:
        explanation = client.explain(run_id)
    if format == "json":
        out_json(explanation.model_dump(mode="json"))
    else:
        out("\n".join(explanation_text(explanation)))


def _state_verb(action: StateVerb, help: str) -> Callable[..., None]:
    """Make a command that applies one action to many runs: the given ids, or all that match filters."""

    def verb(
        runs: RunsArgument = None,
        workflow: WorkflowOption = None,
        state: StateOption = None,
        label: LabelOption = None,
        yes: YesOption = False,
        profile: ProfileOption = None,
        format: FormatOption = "table",
    ) -> None:
        _act(action, runs, filters(workflow, state, label), yes, profile, format)

    verb.__name__, verb.__doc__ = action, help
    return verb


cancel = _state_verb(
    "cancel", "Cancel runs: running nodes are cancelled, completed ones are compensated, then `finally` runs."
)
terminate = _state_verb("terminate", "End runs at once, without clean-up.")
pause = _state_verb("pause", "Pause runs: no more nodes start until the runs are resumed.")
resume = _state_verb("resume", "Continue paused runs.")
retry = _state_verb("retry", "Retry runs that did not succeed. Completed nodes keep their results.")


def rerun(
    run_id: RunArgument,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="NODE", help="Run NODE and everything downstream of it, and reuse the other results."
        ),
    ] = None,
    version: Annotated[
        str, typer.Option("--version", metavar="original|latest|N", help="Version to run.")
    ] = "original",
    input: InputOption = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Show the planned action for each node without starting a run.")
    ] = False,
    watch: WatchOption = False,
    profile: ProfileOption = None,
    format: FormatOption = "table",
) -> None:
    """Start a new run that repeats another one."""
    with connected(profile) as client:
        if plan:
            planned = client.plan_rerun(run_id, start_from=start, version=version)
            if format == "json":
                out_json(planned.model_dump(mode="json"))
            else:
                out("\n".join([f"version {planned.version}", *table((n.node, n.action) for n in planned.nodes)]))
            return
        again = client.rerun(run_id, start_from=start, version=version, input=read_input(input or (), None))
        show_run(client, again.id, watch=watch, format=format)


def signal(
    run_id: RunArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the signal. For an approval: approval:NODE.")],
    payload: Annotated[
        str | None,
        typer.Argument(
            metavar="JSON|@FILE", help='Payload, for example {"approved": true} for an approval. Default: null.'
        ),
    ] = None,
    signal_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="A signal with the same id is delivered only once.")
    ] = None,
    profile: ProfileOption = None,
) -> None:
    """Send a signal to a run. A node that waits for it later receives it, too."""
    value = None if payload is None else read_value(payload, "the payload")
    with connected(profile) as client:
        delivered = client.signal(run_id, name, value, id=signal_id)
    out(f"{run_id}: {name} {'delivered' if delivered else 'was delivered before'}")


def approvals(
    assignee: Annotated[
        str | None,
        typer.Option(
            "--assignee",
            metavar="me|NAME",
            help="Only approvals that you may decide (me), or with this assignee: role:admin, ada, …",
        ),
    ] = None,
    workflow: WorkflowOption = None,
    run: Annotated[UUID | None, typer.Option("--run", metavar="RUN", help="Only approvals of this run.")] = None,
    profile: ProfileOption = None,
    format: FormatOption = "table",
) -> None:
    """List approvals that wait for a decision, oldest first. Decide one with `pyflow remote signal RUN SIGNAL`."""
    given: dict[str, Any] = {"assignee": assignee, "workflow": workflow, "run": None if run is None else str(run)}
    with connected(profile) as client:
        found = list(client.approvals(**{name: value for name, value in given.items() if value}))
    if format == "json":
        out_json([approval.model_dump(mode="json") for approval in found])
    else:
        approvals_table(found)


def _act(
    action: StateVerb,
    runs: list[UUID] | None,
    given: dict[str, Any],
    yes: bool,
    profile: str | None,
    format: Format,
) -> None:
    """Act, and show what came of it; exit code 4 if any refuses."""
    if bool(runs) == bool(given):
        fail("give either the ids of runs, or filters (--workflow, --state, --label)")
    with connected(profile) as client:
        if given and not yes:
            _confirm(action, given)
        results = list(_results(client, action, runs, given))
    if format == "json":
        out_json([result.model_dump(mode="json") for result in results])
    for result in results:
        if result.run is not None and format == "table":
            out(run_line(result.run))
        elif result.problem is not None:
            err(f"Error: {result.id}: {result.problem['detail']}")
            for item in result.problem.get("errors", ()):
                err(f"  {item['pointer'] or '/'}: {item['detail']}")
    if not results:
        err("No matching run would be changed.")
    if any(result.problem is not None for result in results):
        raise typer.Exit(ExitCode.REMOTE)


def _results(
    client: Client, action: StateVerb, runs: list[UUID] | None, given: dict[str, Any]
) -> Iterator[ActionResult]:
    for first in range(0, len(runs or ()), _AT_ONCE):
        yield from client.act_on_runs(action, (runs or [])[first : first + _AT_ONCE]).results
    after: str | None = None
    while given:
        page = client.act_on_runs(action, after=after, **given)
        yield from page.results
        after = page.next
        if after is None:
            return


def _confirm(action: str, given: dict[str, Any]) -> None:
    conditions = ", ".join(f"{name} {' or '.join(values)}" for name, values in given.items())
    if not sys.stdin.isatty():
        fail(f"{action} all runs with {conditions}? Confirm with --yes")
    typer.confirm(f"{action} all runs with {conditions}?", abort=True, err=True)
