"""What a package requires at run time, its code imports; or a reason is here."""

import ast
import itertools
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.repo_shape import tree

#: Requirements that no module imports, and why they are declared.
NOT_IMPORTED = {
    "channels-redis": "messages between consumers: the event bus carries ours",
    "django-prometheus": "metrics of processes: a feature to come",
    "gunicorn": "a program: it serves the WSGI application",
    "hiredis": "redis uses it where it is installed",
    "kombu": "a bound: Celery sets none to the series of it",
    "opentelemetry-api": "traces: a feature to come",
    "opentelemetry-exporter-otlp-proto-http": "as opentelemetry-api",
    "opentelemetry-instrumentation-asgi": "as opentelemetry-api",
    "opentelemetry-instrumentation-celery": "as opentelemetry-api",
    "opentelemetry-instrumentation-django": "as opentelemetry-api",
    "opentelemetry-instrumentation-httpx": "as opentelemetry-api",
    "opentelemetry-instrumentation-psycopg": "as opentelemetry-api",
    "opentelemetry-instrumentation-redis": "as opentelemetry-api",
    "opentelemetry-sdk": "as opentelemetry-api",
    "wsproto": "uvicorn serves WebSockets with it",
    "tzdata": "data: zoneinfo reads it where the system has no time zones",
}
PROJECTS = [path for path in tree.files() if path.name == "pyproject.toml"]


def _requirements(project: Path) -> set[str]:
    declared = tomllib.loads((tree.ROOT / project).read_text())["project"]
    extras = declared.get("optional-dependencies", {}).values()
    texts = itertools.chain(declared["dependencies"], *extras)
    return {canonicalize_name(Requirement(text).name) for text in texts}


def _imported(project: Path) -> set[str]:
    """The top-level modules that the code of a project imports, or names in the settings for Django to import."""
    found = set()
    for path in tree.product_modules():
        if path.is_relative_to(project.parent) and (project.parent != Path() or path.parts[0] != "packages"):
            for node in tree.nodes(path):
                if isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module.partition(".")[0])
                elif path.name == "settings.py" and isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(node.value.partition(".")[0])
    return found


def _not_imported(project: Path) -> set[str]:
    provided: dict[str, set[str]] = {}
    for module, names in metadata.packages_distributions().items():
        for name in names:
            provided.setdefault(canonicalize_name(name), set()).add(module)
    imported = _imported(project)
    return {
        name
        for name in _requirements(project)
        # What is installed from this repository itself tells nothing about its modules.
        if not (provided.get(name, set()) | {name.replace("-", "_")}) & imported
    }


@pytest.mark.parametrize("project", PROJECTS, ids=str)
def test_every_requirement_is_imported_or_has_a_reason(project: Path):
    assert _not_imported(project) - NOT_IMPORTED.keys() == set(), "not needed, or give a reason here"


def test_every_reason_is_needed():
    assert set().union(*map(_not_imported, PROJECTS)) >= NOT_IMPORTED.keys()


def test_a_requirement_that_nobody_imports_is_found(tmp_path: Path):
    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\ndependencies = ["Idle_Package>=1"]\noptional-dependencies.x = ["httpx2"]\n')
    assert _not_imported(project) == {"idle-package", "httpx2"}
