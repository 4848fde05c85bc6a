"""Queries that are not of one tenant are where they belong: never in what answers requests."""

import re
from pathlib import Path

import pytest

from tests.repo_shape import tree

#: Django's own ways; whoever takes them has to say here why that is right.
UNSCOPED = {Path("tenants/scoping.py")}


def _lines(pattern: str, paths: list[Path]) -> list[str]:
    found = re.compile(pattern)
    lines = [(path, line) for path in paths for line in (tree.ROOT / path).read_text().splitlines()]
    return [f"{path}: {line.strip()}" for path, line in lines if found.search(line)]


def test_no_view_asks_across_tenants():
    assert _lines(r"across_tenants", [path for path in tree.product_modules() if "api" in path.parts]) == []


def test_nobody_goes_around_the_managers_but_the_admin():
    ours = [path for path in tree.product_modules() if path not in UNSCOPED and path.name != "admin.py"]
    assert _lines(r"\.unscoped\b|\b_default_manager\b|\b_base_manager\b|(?<!self)\._unscoped\(", ours) == []


@pytest.mark.parametrize("path", [path for path in tree.product_modules() if path.parts[0] in tree.APPS], ids=str)
def test_raw_sql_is_written_in_few_places(path: Path):
    """Row-level security holds for it, and on SQLite nothing does."""
    if "admin" in path.stem or path.parts[-2] == "migrations":
        return
    assert _lines(r"\.raw\(|RawSQL\(|\.extra\(", [path]) == []
