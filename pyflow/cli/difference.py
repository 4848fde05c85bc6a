"""`pyflow diff`: what two workflow files mean differently."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pyflow.cli.console import ExitCode, out, out_json
from pyflow.cli.loading import RefusedError, read_workflow
from pyflow.compare.diff import compare, json_patch


def diff(
    before: Annotated[Path, typer.Argument(metavar="A", help="A workflow: YAML, or JSON by its ending.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="The workflow to compare with A.")],
    format: Annotated[
        Literal["text", "json", "json-patch"],
        typer.Option("--format", help="json-patch: the operations (RFC 6902) that turn A's definition into B's."),
    ] = "text",
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 if they differ.")] = False,
) -> None:
    """Compare two workflow files: nodes, edges, triggers, settings, inputs and outputs.

    What means the same is no difference: comments, the order of keys, YAML or JSON.
    Exit codes: 0 compared; 1 or 3 a file is no workflow; with --exit-code 1 if they differ.
    """
    ours, theirs = _definition(before), _definition(after)
    difference = compare(ours, theirs)
    if format == "json":
        out_json(difference.as_dict())
    elif format == "json-patch":
        out_json(json_patch(ours, theirs))
    else:
        out("\n".join(difference.lines()) or "No differences.")
    if exit_code and not difference.identical:
        raise typer.Exit(ExitCode.FAILED)


def _definition(path: Path) -> dict[str, Any]:
    try:
        return read_workflow(path).canonical()
    except RefusedError as refused:
        refused.report()
