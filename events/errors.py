"""Errors of events."""

from __future__ import annotations

from typing import Any, ClassVar

from pyflow.core.errors import ErrorCategory, PyFlowError


class EventsRemovedError(PyFlowError):
    """Events after this cursor were removed, since the log is kept for a limited time. Continue from `oldest`."""

    code: ClassVar[str] = "events_removed"
    category: ClassVar[ErrorCategory] = ErrorCategory.GONE

    def __init__(self, oldest: str) -> None:
        self.oldest = oldest
        super().__init__(
            "Events after this cursor were removed, since the log is kept for a limited time. Continue from "
            "`oldest`: what was removed before it cannot be read any more."
        )

    def problem_members(self) -> dict[str, Any]:
        """Return ``{oldest}``."""
        return {"oldest": self.oldest}
