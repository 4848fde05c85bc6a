"""Media types besides JSON and YAML, which views answer with themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rest_framework.renderers import BaseRenderer


class OwnAnswer(BaseRenderer):
    """Lets its ``media_type`` through ``Accept``. The view makes the answer; this renders problems only, as JSON."""

    charset = None

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:
        """One object as JSON."""
        return json.dumps(data, default=str, ensure_ascii=False).encode()


class NdjsonRenderer(OwnAnswer):
    """Lines of JSON."""

    media_type = "application/x-ndjson"
    format = "ndjson"


class TextRenderer(OwnAnswer):
    """Text for people."""

    media_type = "text/plain"
    format = "text"
