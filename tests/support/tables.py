"""All that is stored, to be compared with what is stored afterwards."""

from typing import Any

from django.apps import apps


def rows_of(*labels: str) -> dict[str, list[dict[str, Any]]]:
    """The rows of all tables of some apps, by table and in their order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for label in labels:
        for model in apps.get_app_config(label).get_models():
            rows = model._base_manager.order_by("pk").values()
            found[model._meta.db_table] = list(rows)
    return found
