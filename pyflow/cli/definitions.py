"""`pyflow validate`, `list`, `inspect` and `schema`: workflows without running them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pyflow.cli import options
from pyflow.cli.console import ExitCode, fail, out, out_json
from pyflow.cli.loading import RefusedError, check, read_workflow
from pyflow.compare import drawing
from pyflow.core.errors import Problem
from pyflow.documents.models import WorkflowDef
from pyflow.execution.plan import compile_plan
from pyflow.nodes import default_registry
from pyflow.validation.file_schema import file_schema
from pyflow.validation.lint.rules import lint_workflow, secrets_used
from pyflow.validation.loader import workflow_files


def validate(
    file: options.FileArgument,
    format: Annotated[Literal["text", "json"], typer.Option("--format", help="Output format.")] = "text",
    lint: Annotated[
        bool, typer.Option("--lint", help="Also warn about probable mistakes, and list the secrets.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="--lint, and exit with 1 if there are warnings.")] = False,
) -> None:
    """Validate a workflow file and list all errors, with line and column.

    Exit codes: 0 valid; 3 an invalid version 2 document; 1 any other file, or with --strict one with warnings.
    """
    try:
        workflow = read_workflow(file)
        check(workflow, file, default_registry)
    except RefusedError as refused:
        if format == "text":
            refused.report("Invalid")
        out_json({"valid": False, "file": str(file), "problems": [problem.as_dict() for problem in refused.problems]})
        raise typer.Exit(refused.code) from None
    warnings = lint_workflow(workflow, default_registry) if lint or strict else []
    verdict: dict[str, Any] = {"name": workflow.name, "version": workflow.version, "nodes": _count(workflow)}
    if lint or strict:
        verdict |= {"warnings": [warning.as_dict() for warning in warnings], "secrets": secrets_used(workflow)}
    if format == "text":
        out("\n".join(_verdict_lines(file, verdict, warnings)))
    else:
        out_json({"valid": True, "file": str(file), **verdict, "problems": []})
    if strict and warnings:
        raise typer.Exit(ExitCode.FAILED)


def _verdict_lines(file: Path, verdict: Mapping[str, Any], warnings: Sequence[Problem]) -> Iterator[str]:
    yield f"Valid: {verdict['name']} ({verdict['nodes']} nodes)"
    for warning in warnings:
        place = f"{file}:{warning.line}:{warning.column}" if warning.line is not None else f"{file}: {warning.pointer}"
        yield f"  {place}: {warning.message} [{warning.code}]"
    if verdict.get("secrets"):
        yield f"Secrets: {', '.join(verdict['secrets'])}"


def list_workflows(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the workflow files.")] = Path(
        "workflows"
    ),
) -> None:
    """List the workflows of a directory (*.yaml and *.yml)."""
    if directory.exists() and not directory.is_dir():
        fail(f"{directory} is not a directory")
    files = workflow_files(directory)
    if not files:
        out("No workflows found.")
        return
    refusals: list[RefusedError] = []
    for path in files:
        try:
            workflow = read_workflow(path)
        except RefusedError as refused:
            refusals.append(refused)
            continue
        triggers = ", ".join(trigger.type for trigger in workflow.all_triggers())
        out(f"  {workflow.name} [{triggers}] ({_count(workflow)} nodes)")
    if refusals:
        problems = "\n  ".join(line for refused in refusals for line in refused.lines())
        fail(f"{len(refusals)} of {len(files)} files are no workflows\n  {problems}", ExitCode.FAILED)


def inspect(
    file: options.FileArgument,
    format: Annotated[
        Literal["tree", "mermaid", "dot", "json"], typer.Option("--format", help="Output format.")
    ] = "tree",
) -> None:
    """Show the graph of a workflow file."""
    try:
        workflow = read_workflow(file)
        check(workflow, file, default_registry)
    except RefusedError as refused:
        refused.report()
    plan = compile_plan(workflow, default_registry)
    if format == "json":
        out_json(drawing.graph(plan))
        return
    draw = {"tree": drawing.tree, "mermaid": drawing.mermaid, "dot": drawing.dot}[format]
    out("\n".join(draw(plan)))


def schema() -> None:
    """Print the JSON Schema of workflow files, for validation and completion in editors."""
    out_json(file_schema())


def _count(workflow: WorkflowDef) -> int:
    return sum(1 for _ in workflow.all_nodes())
