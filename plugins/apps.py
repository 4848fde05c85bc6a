"""Django's handle on the app."""

from django.apps import AppConfig


class PluginsConfig(AppConfig):
    """Discovery of node types and what a tenant may use."""

    name = "plugins"
