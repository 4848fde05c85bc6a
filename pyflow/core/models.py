"""Version 1's import path of ``pyflow.documents.models``."""

from pyflow.documents.models import (
    CacheDef,
    CompensateDef,
    ConcurrencyDef,
    NodeDef,
    OnError,
    PlacedError,
    QueueName,
    RetryDef,
    RunIf,
    SettingsDef,
    TriggerDef,
    WorkflowDef,
    json_schema,
)

__all__ = [
    "CacheDef",
    "CompensateDef",
    "ConcurrencyDef",
    "NodeDef",
    "OnError",
    "PlacedError",
    "QueueName",
    "RetryDef",
    "RunIf",
    "SettingsDef",
    "TriggerDef",
    "WorkflowDef",
    "json_schema",
]
