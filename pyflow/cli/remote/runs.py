"""`pyflow remote run`, `runs`, `get` and `watch`."""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn
from uuid import UUID

import typer

from pyflow.cli.console import ExitCode, err, fail, out, out_json, to_json
from pyflow.cli.remote.connection import Format, FormatOption, ProfileOption, connected
from pyflow.cli.remote.display import event_line, log_line, run_line, run_text, runs_table
from pyflow.cli.values import read_input

if TYPE_CHECKING:
    from pyflow_client import Client

RunArgument = Annotated[UUID, typer.Argument(metavar="RUN", help="The id of a run.")]
InputOption = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        metavar="K=V|K=@FILE|@FILE|-",
        help="The run's input: one value (JSON or text), a file's content, a file with all values, or standard input. "
        "May be repeated.",
    ),
]
WatchOption = Annotated[
    bool, typer.Option("--watch", "-w", help="Follow the run until it ends. Exit with 1 if it fails.")
]
WorkflowOption = Annotated[
    list[str] | None, typer.Option("--workflow", metavar="NAME", help="Only runs of this workflow. May be repeated.")
]
StateOption = Annotated[
    list[str] | None, typer.Option("--state", metavar="STATE", help="Only runs in this state. May be repeated.")
]
LabelOption = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="NAME:VALUE", help="Only runs with this label. If repeated, with all of them."),
]
Level = Literal["debug", "info", "warning", "error", "critical"]
INTERRUPTED = 130
#: Seconds between two looks for further lines of a log.
LOG_PAUSE = 0.5


def run(
    workflow: Annotated[str, typer.Argument(metavar="WORKFLOW", help="The name of a workflow on the server.")],
    input: InputOption = None,
    version: Annotated[
        int | None, typer.Option("--version", metavar="N", help="Version number. Default: the published version.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label", metavar="NAME:VALUE", help="In addition to the labels of the workflow. May be repeated."
        ),
    ] = None,
    priority: Annotated[
        int | None, typer.Option("--priority", min=1, max=9, help="From 1 (lowest) to 9 (highest).")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", help="A workflow has at most one run per key: a second start returns the first run."),
    ] = None,
    watch: WatchOption = False,
    profile: ProfileOption = None,
    format: FormatOption = "table",
) -> None:
    """Start a run of a workflow on the server, and print its id and state.

    A server that restarts while the run is followed is asked again for 10 minutes; `watch` goes on after that.
    """
    with connected(profile) as client:
        given = read_input(input or (), _inputs(client, workflow) if input else None)
        started = client.start_run(
            workflow, given, version=version, labels=_labels(label or ()), priority=priority, key=key
        )
        if watch and format == "table":
            out(run_line(started))
        elif watch:
            err(f"run {started.id}")  # standard output has an object a line
        show_run(client, started.id, watch=watch, format=format)


def list_runs(
    workflow: WorkflowOption = None,
    state: StateOption = None,
    label: LabelOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Maximum number of runs.")] = 20,
    profile: ProfileOption = None,
    format: FormatOption = "table",
) -> None:
    """List runs, newest first."""
    with connected(profile) as client:
        found = list(islice(client.runs(**filters(workflow, state, label), limit=min(limit, 200)), limit))
    if format == "json":
        out_json([run.model_dump(mode="json") for run in found])
    else:
        runs_table(found)


def get(run_id: RunArgument, profile: ProfileOption = None, format: FormatOption = "table") -> None:
    """Show a run with its nodes, its error and its outputs."""
    with connected(profile) as client:
        show_run(client, run_id, watch=False, format=format)


def watch(run_id: RunArgument, profile: ProfileOption = None, format: FormatOption = "table") -> None:
    """Follow a run until it ends, one line per event (json: one object per line). Exit code 1 if it fails.

    Interrupting this does not stop the run: `pyflow remote cancel` does.
    """
    with connected(profile) as client:
        show_run(client, run_id, watch=True, format=format)


def logs(
    run_id: RunArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue until the run has ended.")] = False,
    node: Annotated[str | None, typer.Option("--node", metavar="NODE", help="Only lines of this node.")] = None,
    level: Annotated[Level | None, typer.Option("--level", help="Minimum level.")] = None,
    profile: ProfileOption = None,
    format: FormatOption = "table",
) -> None:
    """Print the log lines of a run (json: one object per line)."""
    given = {name: value for name, value in (("node", node), ("level", level)) if value is not None}
    after, ended = 0, False
    with connected(profile) as client:
        try:
            while not ended:
                # Asked before the lines: what had ended by then has no more of them.
                ended = not follow or client.events(run_id, limit=1).final
                for line in client.logs(run_id, after=after, **given):
                    after = line.seq
                    out(to_json(line.model_dump(mode="json")) if format == "json" else log_line(line))
                if not ended:
                    time.sleep(LOG_PAUSE)
        except KeyboardInterrupt:
            _left(run_id)


def show_run(client: Client, run_id: str | UUID, *, watch: bool, format: Format) -> None:
    """Print a run as it is now; with ``watch`` its events first, and exit with 1 unless it succeeds."""
    if watch:
        _follow(client, run_id, format)
    run = client.run(run_id)
    if format == "json" and not watch:
        out_json(run.model_dump(mode="json"))
    elif format == "table":
        out("\n".join(run_text(run)) if watch or run.nodes else run_line(run))
    if watch and not run.succeeded:
        raise typer.Exit(ExitCode.FAILED)


def _follow(client: Client, run_id: str | UUID, format: Format) -> None:
    try:
        for event in client.follow(run_id):
            out(to_json(event.model_dump(mode="json")) if format == "json" else event_line(event))
    except KeyboardInterrupt:
        _left(run_id)
    except Exception:  # of the client, which says what it was
        err(_GOES_ON.format(run_id))
        raise


_GOES_ON = "The run continues: `pyflow remote watch {0}` follows it, `pyflow remote cancel {0}` cancels it."


def _left(run_id: str | UUID) -> NoReturn:
    err(_GOES_ON.format(run_id))
    raise typer.Exit(INTERRUPTED)


def filters(workflow: list[str] | None, state: list[str] | None, label: list[str] | None) -> dict[str, Any]:
    """Return the given filters, under the names of the API."""
    given = {"workflow": workflow, "state": state, "label": label}
    return {name: values for name, values in given.items() if values}


def _inputs(client: Client, workflow: str) -> dict[str, Any] | None:
    """The schema of a workflow's input: text is not read as JSON where it says ``string``."""
    definition = client.workflow(workflow).definition
    return None if definition is None else definition.get("inputs")


def _labels(given: Iterable[str]) -> dict[str, str] | None:
    labels = {}
    for item in given:
        name, colon, value = item.partition(":")
        if not colon or not name:
            fail(f"--label {item}: give NAME:VALUE")
        labels[name] = value
    return labels or None
