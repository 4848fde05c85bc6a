"""Rows of triggers, a module per kind. Django finds the models here."""

from triggers.models.events import EventTrigger, Expectation, FailureState, TriggerFailure
from triggers.models.hooks import DeliveryOutcome, HookDelivery, InboundHook
from triggers.models.schedules import Schedule, ScheduleFire, TickerLease

__all__ = [
    "DeliveryOutcome",
    "EventTrigger",
    "Expectation",
    "FailureState",
    "HookDelivery",
    "InboundHook",
    "Schedule",
    "ScheduleFire",
    "TickerLease",
    "TriggerFailure",
]
