"""The OpenAPI document as it is served."""

from __future__ import annotations

from functools import cache
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView
from rest_framework import serializers
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from plumbing.rest.serializers import Strict, validated
from plumbing.rest.views import StrictView


class SchemaQuery(Strict):
    """In which form; ``Accept`` says it as well."""

    format = serializers.ChoiceField(["json", "yaml"], required=False)


class SchemaView(StrictView, SpectacularAPIView):
    """Made once per process and media type: it is the same for everybody, anybody may ask, and it takes a second."""

    reads_query = frozenset({"GET"})

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[BaseRenderer, str]:
        """``?format=`` decides, for a browser and for tools that send no ``Accept``; else the header does.

        With ``force`` it is a problem document that is answered: JSON.
        """
        wanted = "json" if force else validated(SchemaQuery, request.query_params).get("format")
        if wanted is None:
            return super().perform_content_negotiation(request, force)
        renderer = next(kind() for kind in self.renderer_classes if kind.media_type == f"application/{wanted}")
        return renderer, renderer.media_type

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        """The document: YAML, or JSON if that is asked for."""
        renderer: BaseRenderer = request.accepted_renderer
        name = f"{settings.SPECTACULAR_SETTINGS['TITLE']}.{renderer.format}"
        return HttpResponse(
            _rendered(renderer.media_type),
            content_type=renderer.media_type + (f"; charset={renderer.charset}" if renderer.charset else ""),
            headers={"Content-Disposition": f'inline; filename="{name}"'},
        )


@cache
def _rendered(media_type: str) -> Any:
    renderer = next(kind for kind in SchemaView.renderer_classes if kind.media_type == media_type)
    return renderer().render(_document())


@cache
def _document() -> Any:
    return SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
