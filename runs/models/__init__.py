"""Rows of runs and of the log, a module per subject. Django finds the models here."""

from runs.models.log import (
    EventRecord,
    LogCounter,
    LogState,
    RunLog,
)
from runs.models.runs import (
    PLATFORM,
    POISON_LOSSES,
    NodeItem,
    NodeRun,
    NodeTask,
    Run,
    RunQuerySet,
    RunSignal,
    Slot,
    Trigger,
    matching,
)

__all__ = [
    "PLATFORM",
    "POISON_LOSSES",
    "EventRecord",
    "LogCounter",
    "LogState",
    "NodeItem",
    "NodeRun",
    "NodeTask",
    "Run",
    "RunLog",
    "RunQuerySet",
    "RunSignal",
    "Slot",
    "Trigger",
    "matching",
]
