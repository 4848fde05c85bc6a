"""No modules import each other in a circle, not even inside functions or for type checkers."""

from graphlib import CycleError, TopologicalSorter

import grimp
import pytest

PACKAGES = (
    "pyflow", "pyflow_sdk", "pyflow_client", "pyflow_site", "tenants", "secrets_vault", "plugins", "workflows", "runs",
    "triggers", "plumbing",
)  # fmt: skip


def imports_of(*packages: str) -> dict[str, set[str]]:
    """Return what each module imports, of modules that are not the packages around it."""
    graph = grimp.build_graph(*packages, cache_dir=None)
    return {
        module: {name for name in graph.find_modules_directly_imported_by(module) if not module.startswith(f"{name}.")}
        for module in graph.modules
    }


def test_no_modules_import_each_other_in_a_circle():
    TopologicalSorter(imports_of(*PACKAGES)).prepare()


def test_a_circle_is_found():
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()
