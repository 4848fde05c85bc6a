"""Every tenant has the head of its audit, and a chain that begins with a known entry."""

from django.db import migrations
from django.utils import timezone

from pyflow.core.ids import new_uuid
from tenants.audit import canonical, chain

BEGAN, WHO = "audit.began", "migrate"


def begin(apps, schema_editor):
    """Give a head to tenants without one, and a first entry to those without any."""
    models = (apps.get_model("tenants", name) for name in ("Tenant", "AuditEntry", "AuditHead"))
    tenants, entries, heads = (model._base_manager for model in models)
    for tenant in tenants.order_by("pk").iterator():
        last = entries.filter(tenant=tenant).order_by("-seq").first() or _first(entries, tenant)
        heads.get_or_create(tenant=tenant, defaults={"seq": last.seq, "hash": last.hash})
        # A head without a single entry: nothing had been recorded yet.
        heads.filter(tenant=tenant, seq=0).update(seq=last.seq, hash=last.hash)


def _first(entries, tenant):
    entry_id, at, target = new_uuid(), timezone.now(), f"tenant:{tenant.slug}"
    record = canonical(
        {
            "id": str(entry_id),
            "tenant": str(tenant.pk),
            "seq": 1,
            "at": at.isoformat(),
            "actor": {"kind": "system", "id": WHO, "name": WHO},
            "action": BEGAN,
            "target": target,
            "request_id": "",
            "address": "",
            "before": None,
            "after": None,
        }
    )
    return entries.create(
        id=entry_id,
        tenant=tenant,
        seq=1,
        at=at,
        actor_kind="system",
        actor=WHO,
        action=BEGAN,
        target=target,
        record=record,
        previous="",
        hash=chain("", record),
    )


class Migration(migrations.Migration):
    """Data only. What is added is true of an older release as well, so there is nothing to take back."""

    dependencies = [("tenants", "0001_initial")]
    operations = [migrations.RunPython(begin, migrations.RunPython.noop)]
