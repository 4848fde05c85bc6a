"""`pyflow serve`: v1's server, one process, no database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyflow.cli.console import ExitCode, fail, out


def serve(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the workflow files.")] = Path(
        "workflows"
    ),
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port to listen on.")] = 8000,
) -> None:
    """Serve the workflows of a directory over HTTP. With PYFLOW_API_KEY set, starting them needs that key."""
    if not directory.is_dir():
        fail(f"there is no directory {directory}: name the one with the workflow files")
    # No other command needs a server, and it is slow to import.
    import uvicorn  # noqa: PLC0415

    from pyflow.server import create_app  # noqa: PLC0415

    try:
        app = create_app(directory)
    except (OSError, ValueError) as error:  # a file that is no workflow is a ValueError
        fail(f"{directory}: {error}", ExitCode.FAILED)
    out(f"Starting PyFlow server on {host}:{port}")
    uvicorn.run(app, host=host, port=port)
