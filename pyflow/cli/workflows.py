"""The workflows that the nodes of a file name: those in the files beside it."""

from __future__ import annotations

from pathlib import Path

from pyflow.core.errors import DefinitionError, DocumentError, Problem
from pyflow.documents.models import WorkflowDef
from pyflow.validation.loader import load_workflow

_ENDINGS = frozenset({".yaml", ".yml", ".json"})


class DirectoryWorkflows:
    """Workflows by name from the files of a directory, which is read when the first one is asked for.

    Files that are no workflows are passed over; they may be anything.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._by_name: dict[str, list[tuple[Path, WorkflowDef]]] | None = None

    def get(self, name: str) -> WorkflowDef:
        """The workflow of that name. ``KeyError`` if there is none, ``DefinitionError`` if several files have one."""
        if self._by_name is None:
            self._by_name = self._read()
        found = self._by_name[name]
        if len(found) > 1:
            files = ", ".join(path.name for path, _ in found)
            raise DefinitionError([Problem("ambiguous_workflow", f"several files have this name: {files}")])
        return found[0][1]

    def _read(self) -> dict[str, list[tuple[Path, WorkflowDef]]]:
        by_name: dict[str, list[tuple[Path, WorkflowDef]]] = {}
        for path in sorted(self._directory.iterdir()):
            if path.suffix.lower() in _ENDINGS and path.is_file():
                try:
                    workflow = load_workflow(path)
                except (DefinitionError, DocumentError, OSError, ValueError):
                    continue
                by_name.setdefault(workflow.name, []).append((path, workflow))
        return by_name
