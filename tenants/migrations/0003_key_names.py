"""A name is that of one API key of a tenant, for approvals name keys by it."""

from itertools import count

from django.db import migrations, models


def keep_first(apps, schema_editor):
    """Leave each name to the oldest key that has it; the others are renamed: `deploy (2)`."""
    keys = apps.get_model("tenants", "ApiKey")._base_manager
    taken = set()
    for key in keys.filter(revoked_at=None, replaced_by=None).order_by("tenant", "created_at", "pk").iterator():
        name = key.name
        for number in count(2):
            if (key.tenant_id, name.casefold()) not in taken:
                break
            mark = f" ({number})"
            name = key.name[: 200 - len(mark)] + mark
        taken.add((key.tenant_id, name.casefold()))
        keys.filter(pk=key.pk).update(name=name, known_as=name.casefold())


class Migration(migrations.Migration):
    """Adds the column, fills it, and only then demands that it is unique."""

    dependencies = [("tenants", "0002_audit_genesis")]
    operations = [
        migrations.AddField(
            "apikey",
            "known_as",
            models.CharField(
                blank=True,
                editable=False,
                help_text="The name without case, which no other key of the tenant has meanwhile.",
                max_length=600,
                null=True,
            ),
        ),
        migrations.RunPython(keep_first, migrations.RunPython.noop),
        migrations.AddConstraint(
            "apikey", models.UniqueConstraint(fields=("tenant", "known_as"), name="key_per_name")
        ),
    ]
