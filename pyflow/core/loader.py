"""Version 1's import path of ``pyflow.validation.loader``."""

from pyflow.validation.loader import (
    Format,
    build_workflow,
    load_all_workflows,
    load_workflow,
    parse_workflow,
    read_source,
    workflow_files,
)

__all__ = [
    "Format",
    "build_workflow",
    "load_all_workflows",
    "load_workflow",
    "parse_workflow",
    "read_source",
    "workflow_files",
]
