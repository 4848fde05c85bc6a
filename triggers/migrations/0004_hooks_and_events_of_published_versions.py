"""Webhooks and event triggers of versions that were published before there were rows of them.

An event trigger begins with the events that come after this migration, as after a publication. Of two workflows of a
tenant that declare the same path of a webhook, the one that was published first has it; the other one is logged.
"""

import json
import logging
from datetime import timedelta

from django.db import migrations
from django.utils import timezone
from pydantic import ValidationError

from events.cursor import Cursor
from pyflow.core.ids import new_uuid
from pyflow.triggers.declared import triggers_of_canonical
from pyflow.triggers.events import EventConfig
from pyflow.triggers.hooks import WebhookConfig
from runs.storage import log

logger = logging.getLogger(__name__)
CONFIGS = {"webhook": WebhookConfig, "event": EventConfig}


def add_triggers(apps, schema_editor):
    workflows = apps.get_model("workflows", "Workflow").unscoped.filter(archived_at=None)
    versions = apps.get_model("workflows", "Version").unscoped.filter(publication__isnull=False)
    for workflow in workflows.select_related("tenant").order_by("created_at", "pk").iterator():
        version = versions.filter(workflow=workflow).order_by("-publication").only("number", "definition").first()
        if version is None or not any(f'"{type}"' in version.definition for type in CONFIGS):
            continue
        for trigger in triggers_of_canonical(json.loads(version.definition)):
            if trigger.type not in CONFIGS:
                continue
            try:
                config = CONFIGS[trigger.type].model_validate(dict(trigger.config))
            except ValidationError:  # of version 1, or from before triggers were checked
                continue
            add = add_hook if trigger.type == "webhook" else add_event_trigger
            add(apps, workflow, version.number, trigger.id[:128], config)


def add_hook(apps, workflow, number, trigger, config):
    rows = apps.get_model("triggers", "InboundHook").unscoped.filter(tenant_id=workflow.tenant_id)
    if rows.filter(workflow=workflow, trigger=trigger).exists():
        return
    if rows.filter(path=config.path).exists():
        logger.warning(
            "the webhook %r of the workflow %r of the tenant %r gets no requests: another workflow has its path %r",
            *(trigger, workflow.name, workflow.tenant.slug, config.path),
        )
        return
    rows.create(
        id=new_uuid(),
        tenant_id=workflow.tenant_id,
        workflow=workflow,
        trigger=trigger,
        version=number,
        path=config.path,
        address=f"{workflow.tenant.slug}/{config.path}",
        config=config.model_dump(mode="json", exclude_defaults=True),
    )


def add_event_trigger(apps, workflow, number, trigger, config):
    rows = apps.get_model("triggers", "EventTrigger").unscoped.filter(tenant_id=workflow.tenant_id)
    if rows.filter(workflow=workflow, trigger=trigger).exists():
        return
    cursor, now = Cursor.end_of(log.position()), timezone.now()
    row = rows.create(
        id=new_uuid(),
        tenant_id=workflow.tenant_id,
        workflow=workflow,
        trigger=trigger,
        version=number,
        config=config.model_dump(mode="json", exclude_defaults=True),
        position=cursor.position,
        seq=cursor.seq,
        event_id=cursor.id,
    )
    if config.expect is not None and config.after is None and config.expect.key is None:
        apps.get_model("triggers", "Expectation").unscoped.create(
            id=new_uuid(),
            tenant_id=workflow.tenant_id,
            trigger=row,
            key="",
            armed_at=now,
            due_at=now + timedelta(seconds=config.expect.within),
        )


class Migration(migrations.Migration):
    dependencies = [
        ("triggers", "0003_schedules_of_published_versions"),
        ("runs", "0008_log"),
        ("workflows", "0002_plain_help_texts"),
    ]

    operations = [migrations.RunPython(add_triggers, migrations.RunPython.noop)]
