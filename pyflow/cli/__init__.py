"""The `pyflow` command: ``app`` is the Typer application, ``main`` what the console script calls.

One module a command group; exit codes are in ``console.ExitCode``.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Annotated

import typer

from pyflow import __version__
from pyflow.cli import catalogue, convert, definitions, diagnosis, run, service
from pyflow.cli.console import out

__all__ = ["app", "main"]

app = typer.Typer(
    name="pyflow",
    help="Run workflows: graphs of nodes, written in YAML.",
    no_args_is_help=True,
    # Plain help and errors read the same in a pipe; a rich traceback would show local variables, secrets among them.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(value: bool) -> None:
    if value:
        out(f"pyflow {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Run workflows: graphs of nodes, written in YAML."""


app.command("run")(run.run)
app.command("validate")(definitions.validate)
app.command("list")(definitions.list_workflows)
app.command("serve")(service.serve)
app.command("inspect")(definitions.inspect)
app.command("nodes")(catalogue.nodes)
app.command("convert")(convert.convert)
app.command("schema")(definitions.schema)
app.command("doctor")(diagnosis.doctor)


def __getattr__(name: str) -> ModuleType:
    # v1 had `pyflow.cli.uvicorn`, which is where its users' tests replace `uvicorn.run`.
    if name == "uvicorn":
        return importlib.import_module(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def main() -> None:
    """Run the command line of this process and exit."""
    app(prog_name="pyflow")
