"""Which database it is, is asked in one place: whoever reads a rule about PostgreSQL or SQLite finds them all."""

import ast
from pathlib import Path

import pytest

from tests.repo_shape import tree

#: Where the name of the database's kind is read, and why it cannot be asked of ``plumbing.database.dialect``.
REASONS = {
    "plumbing/database/dialect.py": "the one place",
    "plumbing/database/compiled.py": "keeps one text of a query for each kind",
    "tenants/row_security.py": "a migration has a connection of its own",
}
APPS = ("runs", "triggers", "tenants", "workflows", "secrets_vault", "plugins", "pyflow_site", "plumbing")


def reads_vendor(path: Path) -> bool:
    """Return whether a module reads ``connection.vendor``."""
    nodes = ast.walk(ast.parse((tree.ROOT / path).read_text(encoding="utf-8")))
    return any(isinstance(node, ast.Attribute) and node.attr == "vendor" for node in nodes)


def test_the_kind_of_database_is_asked_in_one_place():
    modules = [path for path in tree.files() if path.suffix == ".py" and path.parts[0] in APPS]
    found = {str(path) for path in modules if "migrations" not in path.parts and reads_vendor(path)}
    assert found == REASONS.keys()


@pytest.mark.parametrize("path", REASONS)
def test_every_reason_is_needed(path: str):
    assert reads_vendor(Path(path))
