"""Routes of triggers, below ``/api/v1/``."""

from django.urls import path

from triggers.api.events import EventTriggersView, EventTriggerView, RetryFailureView, TriggerFailuresView
from triggers.api.hooks import HookDeliveriesView, HooksView, HookView
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
EVENT_TRIGGER = "event-triggers/<uuid:trigger_id>"

urlpatterns = [
    path("schedules", SchedulesView.as_view(), name="schedules"),
    path(SCHEDULE, ScheduleView.as_view(), name="schedule"),
    path(f"{SCHEDULE}/pause", PauseScheduleView.as_view(), name="schedule-pause"),
    path(f"{SCHEDULE}/resume", ResumeScheduleView.as_view(), name="schedule-resume"),
    path(f"{SCHEDULE}/fire", FireScheduleView.as_view(), name="schedule-fire"),
    path(f"{SCHEDULE}/preview", PreviewView.as_view(), name="schedule-preview"),
    path(f"{SCHEDULE}/backfill", BackfillView.as_view(), name="schedule-backfill"),
    path(f"{SCHEDULE}/fires", FiresView.as_view(), name="schedule-fires"),
    path("hooks", HooksView.as_view(), name="hooks"),
    path("hooks/<uuid:hook_id>", HookView.as_view(), name="hook"),
    path("hooks/<uuid:hook_id>/deliveries", HookDeliveriesView.as_view(), name="hook-deliveries"),
    path("event-triggers", EventTriggersView.as_view(), name="event-triggers"),
    path(EVENT_TRIGGER, EventTriggerView.as_view(), name="event-trigger"),
    path(f"{EVENT_TRIGGER}/failures", TriggerFailuresView.as_view(), name="trigger-failures"),
    path(f"{EVENT_TRIGGER}/failures/<uuid:failure_id>/retry", RetryFailureView.as_view(), name="trigger-failure-retry"),
]
