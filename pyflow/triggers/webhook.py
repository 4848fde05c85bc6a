"""The ``webhook`` trigger: by a request to a path."""

from __future__ import annotations

from pyflow.documents.models import TriggerDef


class WebhookTrigger:
    """A webhook as a workflow file declares it. ``path`` is ``/`` unless the config has another."""

    def __init__(self, trigger: TriggerDef) -> None:
        self.path: str = trigger.config.get("path", "/")
