"""`pyflow convert`: v1 workflow files as version 2."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer

from pyflow.cli.console import ExitCode, err, fail, out, out_json
from pyflow.cli.loading import RefusedError, check, read_text, read_workflow
from pyflow.core.errors import Problem
from pyflow.net.files import open_private
from pyflow.nodes import default_registry
from pyflow.upgrade import convert as conversion
from pyflow.upgrade.convert import Conversion, ConversionError, Note

_KINDS = {
    "changed": "means something else in version 2",
    "dropped": "had no effect in v1",
    "kept": "is written differently and means the same",
}


def convert(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The v1 workflow: YAML, or JSON by its ending; `-`: standard input.")
    ],
    to: Annotated[Literal["2"], typer.Option("--to", help="The version to convert to.")] = "2",  # noqa: ARG001 - the only one
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="OUT", help="Write the result to this file instead of standard output."),
    ] = None,
    only_check: Annotated[
        bool, typer.Option("--check", help="Print only the notes about changes in meaning, without the result.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
    format: Annotated[
        Literal["text", "json"], typer.Option("--format", help="json: the notes and the result as one document.")
    ] = "text",
) -> None:
    """Upgrade a v1 workflow file to version 2, with the same results.

    The workflow goes to standard output or OUT, notes on every difference to standard error.
    Exit codes: 0 converted; 1 the file is no v1 workflow, or version 2 cannot express it; 2 wrong usage.
    """
    if output is not None and output.exists() and not force:
        fail(f"{output} exists; --force replaces it")
    try:
        result = _converted(file)
    except RefusedError as refused:
        if format == "text":
            refused.report("Not converted")
        out_json({"converted": False, "file": str(file), "problems": [each.as_dict() for each in refused.problems]})
        raise typer.Exit(refused.code) from None
    if output is not None and not only_check:
        try:
            with open(output, "w", encoding="utf-8", opener=open_private) as opened:
                opened.write(result.text)
        except OSError as error:
            fail(f"{output} cannot be written: {error.strerror}", ExitCode.FAILED)
    notes = [note.as_dict() for note in result.notes]
    if format == "json":
        text = {} if only_check else {"text": result.text}
        out_json({"converted": True, "file": str(file), "notes": notes, **text})
    elif only_check:
        out("\n".join(_lines(file, result)))
    else:
        if output is None:
            out(result.text.removesuffix("\n"))
        err("\n".join(_lines(file, result)))


def _converted(file: Path) -> Conversion:
    workflow = read_workflow(file)
    if workflow.version != 1:
        problem = Problem("already_version_2", f"{file} is version {workflow.version} already")
        raise RefusedError(file, [problem], ExitCode.FAILED)
    check(workflow, file, default_registry)
    try:
        text, format = read_text(file)
        return conversion.convert(text, default_registry, format)
    except ConversionError as error:
        raise RefusedError(file, error.problems, ExitCode.FAILED) from None


def _lines(file: Path, result: Conversion) -> Iterator[str]:
    """The notes, those that need somebody's attention first."""
    for kind, meaning in _KINDS.items():
        notes = [note for note in result.notes if note.kind == kind]
        if notes:
            yield f"{kind.capitalize()} ({meaning}):"
            yield from (f"  {_line(file, note)}" for note in notes)
    counted: Counter[str] = Counter(note.kind for note in result.notes)
    counts = ", ".join(f"{counted[kind]} {kind}" for kind in _KINDS)
    yield f"{result.workflow.name}: version 2, {len(result.workflow.nodes)} nodes; notes: {counts}"


def _line(file: Path, note: Note) -> str:
    place = f"{file}:{note.line}:{note.column}" if note.line is not None else f"{file}: {note.pointer or '/'}"
    return f"{place}: {note.message}"
