"""The node types of this installation over HTTP."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from plugins.discovery import discover
from plugins.errors import NodeTypeMissingError
from pyflow.nodes.catalogue import describe, describe_type
from pyflow.nodes.plugins import Plugin
from tenants.access import Permission, Role
from tenants.api.views import TenantView


class NodeTypeShape(serializers.Serializer[Any]):
    """A node type; its schemas are JSON Schema (2020-12)."""

    type = serializers.CharField()
    display_name = serializers.CharField()
    category = serializers.CharField()
    description = serializers.CharField(allow_blank=True)
    version = serializers.CharField()
    config = serializers.DictField(help_text="JSON Schema of its config.")
    output = serializers.DictField(help_text="JSON Schema of its output; empty: anything.")
    example = serializers.DictField(help_text="A config.")


class NodeTypeListShape(serializers.Serializer[Any]):
    """All node types of the installation; there are no pages."""

    results = NodeTypeShape(many=True)


class PluginShape(serializers.Serializer[Any]):
    """A plugin: an entry point `pyflow.nodes` of an installed distribution."""

    name = serializers.CharField()
    distribution = serializers.CharField(allow_blank=True)
    version = serializers.CharField(allow_blank=True)
    status = serializers.ChoiceField(["loaded", "broken"])
    error = serializers.CharField(
        allow_null=True, help_text="Error of a broken plugin; null if the caller is not an admin."
    )


class PluginListShape(serializers.Serializer[Any]):
    """All plugins of the installation; there are no pages."""

    results = PluginShape(many=True)


class NodesView(TenantView):
    """The catalogue."""

    permissions: ClassVar = {"GET": Permission.WORKFLOWS_READ}

    @extend_schema(operation_id="nodes_list", summary="List the node types", responses=NodeTypeListShape)
    def get(self, request: Request) -> Response:
        """List all node types by name, with the JSON Schemas of their config and output."""
        return Response({"results": describe(discover().registry)})


class NodeView(TenantView):
    """One node type."""

    permissions: ClassVar = {"GET": Permission.WORKFLOWS_READ}

    @extend_schema(
        operation_id="nodes_read",
        summary="Read a node type",
        parameters=[
            OpenApiParameter("type", str, OpenApiParameter.PATH, description="Name of the node type, such as `http`.")
        ],
        responses=NodeTypeShape,
    )
    def get(self, request: Request, type: str) -> Response:
        """One node type with the schemas of its config and output, and an example."""
        registry = discover().registry
        if type not in registry:
            raise NodeTypeMissingError(f"There is no node type {type!r}. `/api/v1/nodes` lists the available types.")
        return Response(describe_type(registry, type))


class PluginsView(TenantView):
    """The plugins of this installation."""

    permissions: ClassVar = {"GET": Permission.WORKFLOWS_READ}

    @extend_schema(operation_id="plugins_list", summary="List the plugins", responses=PluginListShape)
    def get(self, request: Request) -> Response:
        """List plugins that provide node types, by name. A broken plugin is disabled alone; admins see the error."""
        admin = self.principal.role.rank >= Role.ADMIN.rank
        return Response({"results": [_show(plugin, admin=admin) for plugin in discover().plugins]})


def _show(plugin: Plugin, *, admin: bool) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "status": plugin.status,
        "error": (plugin.error or None) if admin else None,
    }
