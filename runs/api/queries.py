"""Query parameters of lists of runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from plumbing.rest.pagination import PageQuery
from plumbing.rest.serializers import Strict
from pyflow.core.states import NodeState, RunState
from runs.models import RunQuerySet, Trigger

#: A name that no database takes for the index of an array.
LABEL = r"^[A-Za-z][A-Za-z0-9._/-]{0,62}:.{0,255}$"
#: How each order is asked of the database; ids settle what is equal.
ORDERS: Mapping[str, tuple[str, ...]] = {
    "-created_at": ("-created_at", "-id"),
    "created_at": ("created_at", "id"),
    "-finished_at": ("-finished_at", "-id"),
    "finished_at": ("finished_at", "id"),
}


class RunsFilter(Strict):
    """Filter of runs. Several values of one parameter match any of them; labels must all match."""

    state = serializers.MultipleChoiceField(choices=[state.value for state in RunState], required=False)
    trigger = serializers.MultipleChoiceField(choices=[trigger.value for trigger in Trigger], required=False)
    version = serializers.IntegerField(required=False, min_value=1, max_value=2**31 - 1)
    label = serializers.ListField(  # type: ignore[assignment]
        child=serializers.RegexField(LABEL),
        required=False,
        max_length=10,
        help_text="`name:value`. If repeated, a run must have all of them.",
    )
    parent = serializers.UUIDField(required=False, help_text="Only the child runs of this run.")  # type: ignore[assignment]
    created_after = serializers.DateTimeField(required=False, help_text="Created at or after this time (inclusive).")
    created_before = serializers.DateTimeField(required=False, help_text="Created before this time (exclusive).")
    finished_after = serializers.DateTimeField(required=False, help_text="Ended at or after this time (inclusive).")
    finished_before = serializers.DateTimeField(required=False, help_text="Ended before this time (exclusive).")
    search = serializers.CharField(required=False, max_length=255, help_text="Part of a workflow's name, or a run id.")


class AllRunsFilter(RunsFilter):
    """A filter for runs of all workflows."""

    workflow = serializers.ListField(
        child=serializers.CharField(max_length=128), required=False, max_length=50, help_text="Name of the workflow."
    )


class RunsQuery(PageQuery, RunsFilter):
    """Filter and order of the runs of one workflow."""

    ordering = serializers.ChoiceField(
        list(ORDERS), required=False, default="-created_at", help_text="`finished_at` lists only runs that have ended."
    )


class AllRunsQuery(RunsQuery, AllRunsFilter):
    """Filter and order of the runs of all workflows."""


class NodesQuery(PageQuery):
    """Filter of the nodes of a run."""

    state = serializers.MultipleChoiceField(choices=[state.value for state in NodeState], required=False)


def matching(rows: RunQuerySet, query: Mapping[str, Any]) -> RunQuerySet:
    """The runs that a validated query, or filter, asks for."""
    for name, condition in _CONDITIONS.items():
        if query.get(name):
            rows = rows.filter(**{condition: query[name]})
    for label in query.get("label", ()):
        name, _, value = label.partition(":")
        rows = rows.labelled(name, value)
    if "search" in query:
        rows = rows.found_by(query["search"])
    if query.get("ordering", "").endswith("finished_at"):
        rows = rows.filter(finished_at__isnull=False)
    return rows


_CONDITIONS = {
    "state": "state__in",
    "trigger": "trigger__in",
    "workflow": "workflow__name__in",
    "version": "version__number",
    "parent": "parent",
    "created_after": "created_at__gte",
    "created_before": "created_at__lt",
    "finished_after": "finished_at__gte",
    "finished_before": "finished_at__lt",
}
