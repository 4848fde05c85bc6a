"""Pages for operators, a module per kind. Django's admin finds them here."""

from triggers.admin import events, hooks, schedules

__all__ = ["events", "hooks", "schedules"]
