"""The `pyflow` command: ``app`` is the Typer application with every command, ``main`` what the console script calls.

One module a command group; exit codes are in ``console.ExitCode``. Nothing is imported before it is known what for.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import typer

    app: typer.Typer

__all__ = ["app", "main"]


def __getattr__(name: str) -> Any:
    import importlib  # noqa: PLC0415 - the console script does not come here

    if name == "app":
        return importlib.import_module("pyflow.cli.application").app
    # v1 had `pyflow.cli.uvicorn`, which is where its users' tests replace `uvicorn.run`.
    if name == "uvicorn":
        return importlib.import_module(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def main() -> None:
    """Run the command line of this process and exit."""
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command != "serve":
        # Looking for plugins of pydantic reads the metadata of every installed package: 10 to 50 ms, by file system.
        # They observe validation, which is of use in a server; whoever wants them in another command sets the
        # variable, to nothing for all of them.
        os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # What is imported stays: looking for garbage in it while it grows, and again at the end, is a seventh of a short
    # run.
    gc.disable()
    from pyflow.cli.application import application  # noqa: PLC0415 - imports pydantic, which reads that variable
    from pyflow.cli.streams import exit_status, guard_streams  # noqa: PLC0415 - as above

    guard_streams()
    app = application(command)
    gc.freeze()
    gc.enable()
    try:
        app(prog_name="pyflow")
    except SystemExit as end:
        sys.exit(exit_status(end.code))
