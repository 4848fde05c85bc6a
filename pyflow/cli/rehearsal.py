"""`pyflow run --dry-run`: what a run would do. Imported for a dry run only."""

from __future__ import annotations

from typing import NoReturn

import typer

from pyflow.cli.console import ExitCode, out, out_json
from pyflow.cli.job import Job
from pyflow.cli.options import Format
from pyflow.cli.report import dry_run_lines
from pyflow.core.ports import EnvironmentSecrets
from pyflow.execution.dry_run import dry_run


def rehearse(job: Job, format: Format, *, strict: bool) -> NoReturn:
    """Print what the job would do, and exit."""
    report = dry_run(
        job.workflow,
        job.registry,
        input=job.input_of_version_2(),
        initial_context=job.initial_context(),
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
