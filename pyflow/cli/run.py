"""`pyflow run`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal as system_signals
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from pyflow.cli.console import ExitCode, err, fail, out, out_json, to_json
from pyflow.cli.loading import RefusedError, check, read_workflow
from pyflow.cli.progress import LineWatcher, NdjsonWatcher, Watcher
from pyflow.cli.report import dry_run_lines, run_lines
from pyflow.cli.selection import Selection, select
from pyflow.cli.values import read_input, read_mocks, read_signals
from pyflow.cli.workflows import DirectoryWorkflows
from pyflow.core.dry_run import dry_run
from pyflow.core.engine import Execution, WorkflowEngine
from pyflow.core.errors import InputError
from pyflow.core.models import WorkflowDef
from pyflow.core.node import NodeRegistry
from pyflow.core.plan import compile_plan
from pyflow.core.ports import EnvironmentSecrets
from pyflow.core.result import RunResult
from pyflow.core.states import RunState
from pyflow.core.suspension import Signal
from pyflow.nodes import default_registry
from pyflow.testing.mocks import check_mocks, mocked, registry_for

Format = Literal["text", "json", "ndjson"]


def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The workflow: YAML, or JSON by its ending.")],
    input: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="K=V|K=@FILE|@FILE|-",
            help="The run's input: one value (JSON or text), a file's content, a file with all values, or standard "
            "input. May be repeated. A v1 workflow sees it as `trigger`.",
        ),
    ] = None,
    dry: Annotated[bool, typer.Option("--dry-run", help="Print what would happen and run nothing.")] = False,
    mock: Annotated[
        list[str] | None,
        typer.Option(
            "--mock", metavar="NODE=FILE", help="Do not run NODE: its output is what FILE holds. May be repeated."
        ),
    ] = None,
    signal: Annotated[
        list[str] | None,
        typer.Option(
            "--signal",
            metavar="NAME=JSON|@FILE",
            help="A signal that the run has from its start. The decision of an approval node is approval:NODE. "
            "May be repeated.",
        ),
    ] = None,
    stop_at: Annotated[
        str | None,
        typer.Option("--stop-at", metavar="NODE", help="Run NODE and what it depends on, and nothing else."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="NODE", help="Run NODE and what comes after it; see --results."),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            "--results", metavar="FILE", help="An earlier run, saved from --format json: its outputs before --from."
        ),
    ] = None,
    format: Annotated[
        Format, typer.Option("--format", help="json: the result; ndjson: each event as it happens, then the result.")
    ] = "text",
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Events on standard error, outputs and reasons in the result.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if any node failed, tolerated or not.")] = False,
) -> None:
    """Run a workflow file.

    Exit codes: 0 it ran; 1 it failed, or the file cannot be read; 2 wrong usage or input; 3 the definition
    (version 2) is invalid; 130 interrupted. A v1 workflow with failed nodes exits with 0 unless --strict.
    Secrets are read from the environment: `{{ secrets.NAME }}` is PYFLOW_SECRET_NAME.
    """
    try:
        workflow = read_workflow(file)
        mocks = read_mocks(mock or ())
        registry = _registry(workflow, mocks)
        check(workflow, file, registry)
    except RefusedError as refused:
        refused.report()
    given = read_input(input or (), workflow)
    signals = read_signals(signal or ())
    selection = select(compile_plan(workflow, registry), stop_at, start, results)
    if dry:
        _dry_run(_Job(workflow, registry, mocks, given, selection), format, strict=strict)
    if stop_at is not None:
        # The outputs may need nodes that this run leaves out.
        workflow = workflow.model_copy(update={"outputs": {}})
    job = _Job(workflow, registry, mocks, given, selection, file.parent, tuple(signals))
    result, interrupted_by = _perform(job, format, verbose=verbose)
    raise typer.Exit(_exit_code(result, workflow.version, interrupted_by, strict=strict))


@dataclass(frozen=True, slots=True)
class _Job:
    workflow: WorkflowDef
    registry: NodeRegistry
    mocks: Mapping[str, Any]
    input: dict[str, Any] | None
    selection: Selection
    directory: Path = Path()
    signals: tuple[Signal, ...] = ()


def _registry(workflow: WorkflowDef, mocks: Mapping[str, Any]) -> NodeRegistry:
    try:
        check_mocks(workflow, mocks)
    except ValueError as error:
        fail(f"--mock: {error}")
    return registry_for(workflow, default_registry, mocks)


def _initial_context(given: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if given is None else {"trigger": given}


def _dry_run(job: _Job, format: Format, *, strict: bool) -> NoReturn:
    version = job.workflow.version
    report = dry_run(
        job.workflow,
        job.registry,
        input=None if version == 1 else job.input or {},
        initial_context=_initial_context(job.input),
        secrets=EnvironmentSecrets(),
    )
    for node in report.nodes:
        if node.id in job.selection.recorded:
            report.skipped[node.id] = "its result is reused"
        elif job.selection.only is not None and node.id not in job.selection.only:
            report.skipped[node.id] = "not selected"
    if format == "text":
        out("\n".join(dry_run_lines(report)))
    else:
        out_json(report.as_dict(), indent=2 if format == "json" else None)
    raise typer.Exit(ExitCode.FAILED if strict and not report.clean else ExitCode.OK)


def _perform(job: _Job, format: Format, *, verbose: bool) -> tuple[RunResult, int | None]:
    """Run the job and print its result. The second value is the signal that interrupted it, if one did."""
    live = format == "text" and not verbose and _is_terminal()
    watcher = _watcher(job, format, verbose=verbose, live=live)
    engine = WorkflowEngine(
        job.registry,
        sink=watcher,
        middleware=[mocked(job.mocks)] if job.mocks else [],
        secrets=EnvironmentSecrets(),
        workflows=DirectoryWorkflows(job.directory),
    )
    workflow = job.workflow
    try:
        execution = engine.start(
            workflow,
            input=None if workflow.version == 1 else job.input or {},
            initial_context=_initial_context(job.input),
            recorded=job.selection.recorded,
            only=job.selection.only,
            signals=job.signals,
        )
    except InputError as error:
        fail("\n  ".join(("the input does not fit the workflow:", *_input_lines(error))))
    if format == "text":
        out(f"Running workflow: {workflow.name}")

    async def body() -> tuple[RunResult, int | None]:
        with watcher, _cancelled_by_signals(execution) as signals:
            result = await execution.wait()
            await engine.join()
        _print_result(result, workflow.version, format, verbose=verbose, live=live)
        return result, signals[0] if signals else None

    return asyncio.run(body())


def _input_lines(error: InputError) -> Iterator[str]:
    for problem in error.problems:
        yield f"{problem.pointer or '/'}: {problem.message}"


def _is_terminal() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def _watcher(job: _Job, format: Format, *, verbose: bool, live: bool) -> Watcher:
    if format == "ndjson":
        return NdjsonWatcher()
    if live:
        from pyflow.cli.live import LiveWatcher  # noqa: PLC0415 - rich costs a piped run 0.1 s for nothing

        return LiveWatcher(job.workflow.name, sum(1 for _ in job.workflow.all_nodes()))
    return LineWatcher() if verbose else Watcher()


@contextlib.contextmanager
def _cancelled_by_signals(execution: Execution) -> Iterator[Sequence[int]]:
    """Cancel the run on the first SIGINT or SIGTERM, leave at once on the second; yields the signals so far."""
    loop = asyncio.get_running_loop()
    received: list[int] = []

    def on_signal(number: int) -> None:
        received.append(number)
        if len(received) > 1:
            # A node that blocks a thread would keep the interpreter from ending.
            os._exit(128 + number)
        err("Cancelling the run; once more to leave at once.")
        execution.cancel()

    # Not in a thread and not on Windows, where the signal ends the process.
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
        for number in (system_signals.SIGINT, system_signals.SIGTERM):
            loop.add_signal_handler(number, on_signal, number)
    # The handlers stay until the loop is closed, which waits for blocked threads.
    yield received


def _print_result(result: RunResult, version: int, format: Format, *, verbose: bool, live: bool) -> None:
    if format == "json":
        out_json(result.as_dict())
        return
    if format == "ndjson":
        out(to_json({"type": "result", **result.as_dict()}))
        return
    lines = run_lines(result, version, verbose=verbose)
    if live:
        from pyflow.cli.live import print_coloured  # noqa: PLC0415 - see above

        print_coloured(lines)
    else:
        out("\n".join(lines))
    if version != 1 and result.error is not None:
        where = f"node {result.error.node_id!r}: " if result.error.node_id else ""
        err(result.context.redactor.redact(f"Error: {where}{result.error.message}"))


def _exit_code(result: RunResult, version: int, interrupted_by: int | None, *, strict: bool) -> int:
    if interrupted_by is not None and result.state is RunState.CANCELLED:
        return 128 + interrupted_by
    failed = result.state is not RunState.SUCCEEDED if version != 1 else result.state is RunState.CANCELLED
    if strict:
        failed = failed or any(run.error is not None for run in result.nodes.values())
    return ExitCode.FAILED if failed else ExitCode.OK
