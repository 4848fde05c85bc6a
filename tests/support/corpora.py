"""The attack corpora: JSON lists of cases, usable where a fixture is not (`pytest.mark.parametrize`)."""

import json
import os
from pathlib import Path
from typing import Any


def folder() -> Path:
    """Return the folder named by `PYFLOW_CORPORA`, or the one that came with the repository."""
    return Path(os.environ.get("PYFLOW_CORPORA") or Path(__file__).parents[1] / "corpora")


def load(name: str) -> list[dict[str, Any]]:
    """Return the cases of one corpus, such as `ssrf`; each is a dict with at least an `id`."""
    cases: list[dict[str, Any]] = json.loads((folder() / f"{name}.json").read_bytes())
    return cases
