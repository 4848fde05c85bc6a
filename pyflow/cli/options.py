"""The arguments and options of `pyflow run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Format = Literal["text", "json", "ndjson"]

FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="The workflow: YAML, or JSON by its ending; `-`: standard input.")
]
InputOption = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        metavar="K=V|K=@FILE|@FILE|-",
        help="The run's input: one value (JSON or text), a file's content, a file with all values, or standard "
        "input. May be repeated. A v1 workflow sees it as `trigger`.",
    ),
]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Print what would happen and run nothing.")]
MockOption = Annotated[
    list[str] | None,
    typer.Option(
        "--mock",
        metavar="NODE=FILE",
        help="Use FILE as the output of NODE instead of running it. In a child run: WORKFLOW/NODE. May be repeated.",
    ),
]
SignalOption = Annotated[
    list[str] | None,
    typer.Option(
        "--signal",
        metavar="NAME=JSON|@FILE",
        help="A signal that the run receives when it starts. The decision of an approval node: approval:NODE. "
        "May be repeated.",
    ),
]
StopAtOption = Annotated[
    str | None,
    typer.Option("--stop-at", metavar="NODE", help="Run only NODE and its dependencies."),
]
FromOption = Annotated[
    str | None,
    typer.Option("--from", metavar="NODE", help="Run NODE and everything downstream of it; needs --results."),
]
ResultsOption = Annotated[
    Path | None,
    typer.Option(
        "--results",
        metavar="FILE",
        help="An earlier result, saved from --format json: its outputs are used for nodes before --from.",
    ),
]
FormatOption = Annotated[
    Format, typer.Option("--format", help="json: the result; ndjson: each event as it happens, then the result.")
]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Events on standard error, outputs and reasons in the result.")
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Exit with 1 if any node failed, tolerated or not.")]
