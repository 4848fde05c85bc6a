"""The screens of what other packages bring: the schedule of background tasks, to look at."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)

from tenants.admin.access import is_operator
from tenants.admin.base import CheckedAddress


class ScheduleAdmin(CheckedAddress[Any]):
    """Tasks that beat sends, and their times. Follows the settings; not editable here: a change would leave no audit.

    A task that somebody could add runs in every worker, for all tenants.
    """

    actions = None

    def has_module_permission(self, request: HttpRequest) -> bool:
        """The operator's."""
        return is_operator(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """The operator's."""
        return is_operator(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


SCHEDULES = (PeriodicTask, IntervalSchedule, CrontabSchedule, ClockedSchedule, SolarSchedule)
for model in SCHEDULES:
    admin.site.unregister(model)
    admin.site.register(model, ScheduleAdmin)
