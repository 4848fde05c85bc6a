"""What the corpora's cases have in common: their input, and whether an outcome is what they expect."""

import json
from typing import Any


def source(case: dict[str, Any]) -> str:
    """Return the text of a case; ``{"build": [[text, count], …]}`` is the concatenation."""
    given = case["input"]
    return given if isinstance(given, str) else "".join(text * count for text, count in given["build"])


def boxed(case: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the case as ``boxed`` runs it."""
    return {"id": case["id"], "kind": kind, "source": source(case), "context": case.get("context", {})}


def holds(case: dict[str, Any], outcome: dict[str, Any]) -> bool:
    """Whether the outcome is one that the case accepts."""
    return any(_matches(expected, outcome) for expected in case.get("accept", [case["expect"]]))


def _matches(expected: str, outcome: dict[str, Any]) -> bool:
    kind, _, value = expected.partition(":")
    if kind == "render":
        return outcome["is"] == "value" and str(outcome["value"]) == value
    if kind == "value":
        return outcome["is"] == "value" and bool(outcome["value"] == json.loads(value))
    if kind == "reject":
        # What is too large is refused, too; a test for size must not pass because of a slip elsewhere.
        return outcome["is"] in ("reject", "limit")
    return bool(outcome["is"] == kind)
