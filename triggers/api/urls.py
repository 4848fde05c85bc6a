"""Routes of triggers, below ``/api/v1/``."""

from django.urls import path

from triggers.api.schedules.views import (
    BackfillView,
    FireScheduleView,
    FiresView,
    PauseScheduleView,
    PreviewView,
    ResumeScheduleView,
    SchedulesView,
    ScheduleView,
)

SCHEDULE = "schedules/<uuid:schedule_id>"

urlpatterns = [
    path("schedules", SchedulesView.as_view(), name="schedules"),
    path(SCHEDULE, ScheduleView.as_view(), name="schedule"),
    path(f"{SCHEDULE}/pause", PauseScheduleView.as_view(), name="schedule-pause"),
    path(f"{SCHEDULE}/resume", ResumeScheduleView.as_view(), name="schedule-resume"),
    path(f"{SCHEDULE}/fire", FireScheduleView.as_view(), name="schedule-fire"),
    path(f"{SCHEDULE}/preview", PreviewView.as_view(), name="schedule-preview"),
    path(f"{SCHEDULE}/backfill", BackfillView.as_view(), name="schedule-backfill"),
    path(f"{SCHEDULE}/fires", FiresView.as_view(), name="schedule-fires"),
]
