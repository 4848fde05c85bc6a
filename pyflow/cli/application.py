"""The Typer application. ``app`` has all commands; ``application`` makes one with those that a process needs."""

from __future__ import annotations

import importlib
from typing import Annotated, Any

import typer

from pyflow.cli.console import out

#: The commands in the order of the help, each with its module and its function.
COMMANDS = {
    "run": ("run", "run"),
    "validate": ("definitions", "validate"),
    "list": ("definitions", "list_workflows"),
    "serve": ("service", "serve"),
    "inspect": ("definitions", "inspect"),
    "nodes": ("catalogue", "nodes"),
    "diff": ("difference", "diff"),
    "convert": ("convert", "convert"),
    "schema": ("definitions", "schema"),
    "doctor": ("diagnosis", "doctor"),
}
#: Groups of commands, each with its module, whose ``app`` has them.
GROUPS = {"remote": "remote"}


def application(command: str = "") -> typer.Typer:
    """The application with one command, so that the modules of the others need not be imported.

    With all of them if there is no command of that name: for the help, and for saying what there is.
    """
    made = typer.Typer(
        name="pyflow",
        help="Run workflows: graphs of nodes, written in YAML.",
        no_args_is_help=True,
        # Plain help and errors read the same in a pipe; a rich traceback would show local variables, secrets among
        # them.
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    made.callback()(_options)
    known = command in COMMANDS or command in GROUPS
    for name in COMMANDS if not known else [command] if command in COMMANDS else ():
        module, function = COMMANDS[name]
        made.command(name)(getattr(importlib.import_module(f"pyflow.cli.{module}"), function))
    for name in GROUPS if not known else [command] if command in GROUPS else ():
        made.add_typer(importlib.import_module(f"pyflow.cli.{GROUPS[name]}").app, name=name)
    return made


def _print_version(value: bool) -> None:
    if value:
        from pyflow import __version__  # noqa: PLC0415 - it is looked up when it is asked for

        out(f"pyflow {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Run workflows: graphs of nodes, written in YAML."""


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = made = application()
    return made
