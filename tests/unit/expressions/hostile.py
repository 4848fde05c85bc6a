"""What the corpora's cases have in common: how they are run, and whether an outcome is what they expect."""

import json
from typing import Any

from tests.support import corpora


def as_boxed(case: corpora.Case, kind: str) -> dict[str, Any]:
    """Return the case as ``boxed`` runs it."""
    return {"id": case["id"], "kind": kind, "source": corpora.text(case), "context": case.get("context", {})}


def outcome(case: corpora.Case, outcomes: dict[str, dict[str, Any]], prefix: str = "") -> dict[str, Any]:
    """Return what became of the case, whose id stands behind a prefix; one whose input is no text has failed."""
    if not corpora.is_text(case):
        corpora.text(case)
    return outcomes[f"{prefix}{case['id']}"]


def holds(case: corpora.Case, outcome: dict[str, Any]) -> bool:
    """Whether the outcome is one that the case accepts."""
    return any(_matches(case, expected, outcome) for expected in case.get("accept", [case["expect"]]))


def _matches(case: corpora.Case, expected: str, outcome: dict[str, Any]) -> bool:
    kind, _, value = expected.partition(":")
    if kind == "render":
        return outcome["is"] == "value" and str(outcome["value"]) == value
    if kind == "value":
        return outcome["is"] == "value" and bool(outcome["value"] == json.loads(value))
    if kind == "reject":
        # What is too large is refused, too; a test for size must not pass because of a slip elsewhere.
        return outcome["is"] in ("reject", "limit")
    if kind == "limit":
        return bool(outcome["is"] == "limit")
    return bool(corpora.unread(case, f"the expectation {expected!r}"))
