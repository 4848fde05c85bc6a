"""Rows of triggers, a module per kind. Django finds the models here."""

from triggers.models.schedules import Schedule, ScheduleFire, TickerLease

__all__ = ["Schedule", "ScheduleFire", "TickerLease"]
