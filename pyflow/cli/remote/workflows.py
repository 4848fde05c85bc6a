"""`pyflow remote push` and `workflows`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyflow.cli.console import ExitCode, fail, out, out_json
from pyflow.cli.remote.connection import FormatOption, ProfileOption, connected
from pyflow.cli.remote.display import columns, moment
from pyflow.core.errors import DocumentError
from pyflow.documents.reading import MAX_BYTES, decode, read_json, read_yaml


def push(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Workflows: YAML, or JSON by its ending.")],
    profile: ProfileOption = None,
    format: FormatOption = "table",
) -> None:
    """Store workflow files on the server: as new workflows, or as new versions of existing ones.

    A document that means the same as the newest version, with other comments perhaps, makes no new one. The server
    checks each as a whole: exit code 3 if one is invalid, and those behind it are not sent.
    """
    documents = [(file, *_read(file)) for file in files]
    stored = []
    with connected(profile) as client:
        for file, name, text in documents:
            workflow = client.put_workflow(name, text)
            stored.append(workflow)
            if format == "table":
                out(f"{file}: {workflow.name} version {workflow.version} ({workflow.version_state})")
    if format == "json":
        out_json([workflow.model_dump(mode="json") for workflow in stored])


def _read(file: Path) -> tuple[str, str]:
    """The name in a document, and its text."""
    try:
        with file.open("rb") as opened:
            text = decode(opened.read(MAX_BYTES + 1))
        data = (read_json(text) if file.suffix.lower() == ".json" else read_yaml(text)).data
    except DocumentError as error:
        fail(f"{file}: {error}", ExitCode.INVALID)
    except (OSError, ValueError) as error:  # a path may hold what no name of a file can
        fail(f"{file} cannot be read: {error}", ExitCode.FAILED)
    name = data.get("name") if isinstance(data, dict) else None
    if not isinstance(name, str) or not name or name in {".", ".."}:
        fail(f"{file}: a workflow is a mapping with a `name`", ExitCode.INVALID)
    return name, text


def list_workflows(
    search: Annotated[str | None, typer.Option("--search", metavar="TEXT", help="Part of the name.")] = None,
    profile: ProfileOption = None,
    format: FormatOption = "table",
) -> None:
    """List the workflows of the server by name."""
    with connected(profile) as client:
        found = list(client.workflows(**({} if search is None else {"search": search})))
    if format == "json":
        out_json([workflow.model_dump(mode="json") for workflow in found])
    else:
        rows = [(item.name, str(item.version), item.version_state or "", moment(item.updated_at)) for item in found]
        columns(("NAME", "VERSION", "STATE", "UPDATED"), rows)
