"""The Celery application: ``celery -A pyflow_site worker`` and ``… beat``."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "pyflow_site.settings")
# Celery closes Django's connection pool around every task: workers keep one connection each instead.
os.environ.setdefault("PYFLOW_DB_POOL", "false")

app = Celery("pyflow")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
