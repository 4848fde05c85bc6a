"""Schedules of versions that were published before there were rows of schedules.

The next slot is computed by the scheduler when it begins to work, as after an update of the rules of time zones: until
then these rows wait for a moment that does not come.
"""

import json
from datetime import UTC, datetime

from django.db import migrations
from django.utils import timezone

from pyflow.core.ids import new_uuid
from pyflow.triggers.declared import triggers_of_canonical

FAR = datetime(9999, 1, 1, tzinfo=UTC)


def add_schedules(apps, schema_editor):
    Schedule = apps.get_model("triggers", "Schedule").unscoped
    workflows = apps.get_model("workflows", "Workflow").unscoped.filter(archived_at=None)
    versions = apps.get_model("workflows", "Version").unscoped.filter(publication__isnull=False)
    for workflow in workflows.only("id", "tenant_id").iterator():
        version = versions.filter(workflow=workflow).order_by("-publication").only("number", "definition").first()
        if version is None or '"schedule"' not in version.definition:
            continue
        known = set(Schedule.filter(workflow=workflow).values_list("trigger_id", flat=True))
        for trigger in triggers_of_canonical(json.loads(version.definition)):
            if trigger.type == "schedule" and trigger.id not in known:
                Schedule.create(
                    id=new_uuid(),
                    tenant_id=workflow.tenant_id,
                    workflow_id=workflow.pk,
                    trigger_id=trigger.id[:128],
                    version_number=version.number,
                    config=dict(trigger.config),
                    anchor=timezone.now(),
                    next_at=FAR,
                    due_at=FAR,
                    zone_rules="not read yet",
                )


class Migration(migrations.Migration):
    dependencies = [("triggers", "0002_hooks_and_events")]

    operations = [migrations.RunPython(add_schedules, migrations.RunPython.noop)]
