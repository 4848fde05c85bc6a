"""The repository as its shape tests see it: the files that are, or would be, in version control."""

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
APPS = ("tenants", "secrets_vault", "plugins", "workflows", "runs", "events", "triggers")
PACKAGES = ("pyflow", "pyflow_site", *APPS, "plumbing", "packages")


@cache
def files() -> tuple[Path, ...]:
    """Return every file that is tracked, or is neither tracked nor ignored, relative to the root."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout.decode()
    return tuple(Path(name) for name in sorted(set(listing.split("\0"))) if name and (ROOT / name).is_file())


def texts() -> Iterator[tuple[Path, str]]:
    """Yield each text file with its content."""
    for path in files():
        content = (ROOT / path).read_bytes()
        if b"\0" not in content[:4096]:
            yield path, content.decode("utf-8")


def modules(*tops: str) -> list[Path]:
    """Return the Python modules under the given top-level folders (all of them without any)."""
    return [path for path in files() if path.suffix == ".py" and (not tops or path.parts[0] in tops)]


def product_modules() -> list[Path]:
    """Return the modules that users get, without migrations and tests."""
    return [path for path in modules(*PACKAGES) if not {"migrations", "tests"} & set(path.parts)]


@cache
def tree(path: Path) -> ast.Module:
    """Return a module's syntax tree."""
    return ast.parse((ROOT / path).read_bytes(), filename=str(path))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Return all nodes of a module's syntax tree, for rules that look at each."""
    return tuple(ast.walk(tree(path)))
