"""The Django project: settings, URLs, error rendering, health. The only place that knows all apps."""

from pyflow_site.starting import begin

begin()

from pyflow_site.celery import app as celery_app  # noqa: E402 - one of the many things that are imported from here on

__all__ = ["celery_app"]
