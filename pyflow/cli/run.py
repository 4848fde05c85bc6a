"""`pyflow run`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal as system_signals
import sys
from collections.abc import Iterator, Sequence

import typer

from pyflow.cli import options
from pyflow.cli.console import ExitCode, err, fail, out, out_json, to_json
from pyflow.cli.job import Job, read_job
from pyflow.cli.options import Format
from pyflow.cli.progress import LineWatcher, NdjsonWatcher, Watcher
from pyflow.cli.report import error_text, run_lines
from pyflow.cli.workflows import DirectoryWorkflows
from pyflow.core.errors import InputError
from pyflow.core.ports import EnvironmentSecrets
from pyflow.core.result import RunResult
from pyflow.core.states import RunState
from pyflow.execution.engine import Execution, Middleware, RunRequest, WorkflowEngine


def run(
    file: options.FileArgument,
    input: options.InputOption = None,
    dry: options.DryOption = False,
    mock: options.MockOption = None,
    signal: options.SignalOption = None,
    stop_at: options.StopAtOption = None,
    start: options.FromOption = None,
    results: options.ResultsOption = None,
    format: options.FormatOption = "text",
    verbose: options.VerboseOption = False,
    strict: options.StrictOption = False,
) -> None:
    """Run a workflow file.

    Exit codes: 0 it ran; 1 it failed, or the file cannot be read; 2 wrong usage or input; 3 the definition
    (version 2) is invalid; 130 interrupted. A v1 workflow with failed nodes exits with 0 unless --strict.
    Secrets are read from the environment: `{{ secrets.NAME }}` is PYFLOW_SECRET_NAME.
    """
    job = read_job(
        file,
        input=input or (),
        mocks=mock or (),
        signals=signal or (),
        stop_at=stop_at,
        start=start,
        results=results,
    )
    if dry:
        from pyflow.cli.rehearsal import rehearse  # noqa: PLC0415 - a run that takes place does not need it

        rehearse(job, format, strict=strict)
    if stop_at is not None:
        job = job.without_outputs()
    result, interrupted_by = _perform(job, format, verbose=verbose)
    raise typer.Exit(_exit_code(result, job.workflow.version, interrupted_by, strict=strict))


def _perform(job: Job, format: Format, *, verbose: bool) -> tuple[RunResult, int | None]:
    """Run the job and print its result. The second value is the signal that interrupted it, if one did."""
    live = format == "text" and not verbose and _is_terminal()
    watcher = _watcher(job, format, verbose=verbose, live=live)
    engine = WorkflowEngine(
        job.registry,
        sink=watcher,
        middleware=_mocks(job),
        secrets=EnvironmentSecrets(),
        workflows=DirectoryWorkflows(job.directory),
    )
    workflow = job.workflow
    try:
        request = RunRequest(
            workflow,
            input=job.input_of_version_2(),
            initial_context=job.initial_context(),
            recorded=job.selection.recorded,
            only=job.selection.only,
            signals=job.signals,
        )
        execution = engine.start(request)
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


def _mocks(job: Job) -> list[Middleware]:
    if not job.mocks:
        return []
    from pyflow.testing.mocks import mocked  # noqa: PLC0415 - most runs have no mocks

    return [mocked(job.mocks)]


def _input_lines(error: InputError) -> Iterator[str]:
    for problem in error.problems:
        yield f"{problem.pointer or '/'}: {problem.message}"


def _is_terminal() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def _watcher(job: Job, format: Format, *, verbose: bool, live: bool) -> Watcher:
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
        err(result.context.redactor.redact_message(f"Error: {where}{error_text(result.error)}"))


def _exit_code(result: RunResult, version: int, interrupted_by: int | None, *, strict: bool) -> int:
    if interrupted_by is not None and result.state is RunState.CANCELLED:
        return 128 + interrupted_by
    failed = result.state is not RunState.SUCCEEDED if version != 1 else result.state is RunState.CANCELLED
    if strict:
        failed = failed or any(run.error is not None for run in result.nodes.values())
    return ExitCode.FAILED if failed else ExitCode.OK
