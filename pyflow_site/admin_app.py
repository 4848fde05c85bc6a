"""Django's admin with our site in it."""

from __future__ import annotations

from django.contrib.admin.apps import AdminConfig


class OperatorsConfig(AdminConfig):
    """In place of ``django.contrib.admin``."""

    default_site = "pyflow_site.operators.OperatorsSite"
