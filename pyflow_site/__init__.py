"""The Django project: settings, URLs, error rendering, health. The only place that knows all apps."""

from pyflow_site.celery import app as celery_app

__all__ = ["celery_app"]
