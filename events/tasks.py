"""Starts the sender of webhooks in celery-beat's process, which forks none that would inherit its thread's state."""

from __future__ import annotations

from typing import Any

from celery.signals import beat_embedded_init, beat_init

from events.webhooks.sender import WebhookSender


@beat_init.connect
@beat_embedded_init.connect
def _start_sender(**_: Any) -> None:
    WebhookSender().start()
