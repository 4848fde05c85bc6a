"""The Celery application: ``celery -A pyflow_site worker`` and ``… beat``."""

from __future__ import annotations

import os
import sys

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "pyflow_site.settings")
if {"worker", "beat"} & set(sys.argv) and "celery" in sys.argv[0]:
    # Celery closes Django's connection pool around every task: its processes keep one connection each instead.
    os.environ.setdefault("PYFLOW_DB_POOL", "false")

app = Celery("pyflow")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
