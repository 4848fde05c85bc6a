"""Workflow files as commands read them: everything that is wrong, where it is, and the exit code for it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NoReturn

import typer

from pyflow.cli.console import ExitCode, err
from pyflow.core.errors import DefinitionError, DocumentError, Problem, WorkflowNotFoundError
from pyflow.core.node import NodeRegistry
from pyflow.documents.models import WorkflowDef
from pyflow.documents.reading import MAX_BYTES, decode, read_json, read_yaml
from pyflow.execution.plan import compile_plan
from pyflow.validation.checker import locate
from pyflow.validation.loader import Format, parse_workflow, read_source

#: Stands for standard input, as the path of a workflow.
STANDARD_INPUT = Path("-")


class RefusedError(Exception):
    """A file that is no workflow that could run. ``code``: 3 for a version 2 document, else 1, as v1 had it."""

    def __init__(self, path: Path, problems: Sequence[Problem], code: ExitCode) -> None:
        self.path = "standard input" if path == STANDARD_INPUT else str(path)
        self.problems = tuple(problems)
        self.code = code
        super().__init__("\n".join(self.lines()))

    def lines(self) -> list[str]:
        """One ``FILE:LINE:COLUMN: what is wrong (did you mean …?)`` for each problem."""
        return [self._line(problem) for problem in self.problems]

    def _line(self, problem: Problem) -> str:
        if problem.message.startswith(f"{self.path} "):
            return problem.message
        return f"{self.path}{_position(problem)}: {_text(problem)}"

    def report(self, word: str = "Error") -> NoReturn:
        """Print the lines to standard error, after ``word``, and exit."""
        lines = self.lines()
        if len(lines) == 1:
            err(f"{word}: {lines[0]}")
        else:
            err("\n".join((f"{word}: {len(lines)} problems", *(f"  {line}" for line in lines))))
        raise typer.Exit(int(self.code))


def read_workflow(path: Path) -> WorkflowDef:
    """The workflow in a file. Raises ``RefusedError``."""
    try:
        return parse_workflow(*read_text(path))
    except DocumentError as error:
        raise RefusedError(path, [error.problem], ExitCode.FAILED) from None
    except DefinitionError as error:
        raise RefusedError(path, error.problems, _code_for(_version_in(path))) from None
    except WorkflowNotFoundError as error:
        raise RefusedError(path, [Problem(error.code, "there is no such file")], ExitCode.FAILED) from None
    except (OSError, ValueError) as error:  # a path that the system has no use for
        raise RefusedError(path, [Problem("document_invalid", str(error))], ExitCode.FAILED) from None


def read_text(path: Path) -> tuple[str, Format]:
    """The text of a workflow and its format, from a file or from standard input (``-``), which is YAML or JSON.

    Raises ``FileNotFoundError`` or ``DocumentError``.
    """
    return (_standard_input(sys.stdin.buffer), "yaml") if path == STANDARD_INPUT else read_source(path)


@lru_cache(maxsize=1)
def _standard_input(stream: BinaryIO) -> str:
    """All that there is, which can be read only once."""
    return decode(stream.read(MAX_BYTES + 1))


def check(workflow: WorkflowDef, path: Path, registry: NodeRegistry) -> None:
    """Raise ``RefusedError`` with everything that is wrong, unless ``workflow`` can run with these node types."""
    try:
        compile_plan(workflow, registry)
    except DefinitionError as error:
        problems = locate(error.problems, workflow._document)
        raise RefusedError(path, problems, _code_for(workflow.version)) from None


def _code_for(version: object) -> ExitCode:
    return ExitCode.INVALID if version == 2 else ExitCode.FAILED


def _version_in(path: Path) -> object:
    """The version that a refused document claims to be."""
    text, format = read_text(path)
    data = (read_json(text) if format == "json" else read_yaml(text, scalars=None)).data
    return data.get("version", 1) if isinstance(data, dict) else 1


def _position(problem: Problem) -> str:
    return "" if problem.line is None else f":{problem.line}:{problem.column}"


def _text(problem: Problem) -> str:
    where = f"{problem.pointer}: " if problem.line is None and problem.pointer else ""
    hint = f" (did you mean {problem.suggestion!r}?)" if problem.suggestion else ""
    return f"{where}{problem.message}{hint}"
