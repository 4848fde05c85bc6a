import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

def publish_all(apps, schema_editor):
    """What there is was published when it was stored."""
    apps.get_model("workflows", "Version").unscoped.update(
        publication=models.F("number"), published_at=models.F("created_at"), updated_at=models.F("created_at")
    )


class Migration(migrations.Migration):
    dependencies = [("workflows", "0002_row_security")]

    operations = [
        migrations.AddField("workflow", "archived_at", models.DateTimeField(blank=True, editable=False, null=True)),
        migrations.AddField(
            "workflow",
            "revision",
            models.PositiveIntegerField(default=0, editable=False, help_text="Counts its changes, for its `ETag`."),
        ),
        migrations.AddField(
            "version",
            "state",
            models.CharField(
                choices=[("draft", "Draft"), ("published", "Published"), ("archived", "Archived")],
                default="published",
                editable=False,
                max_length=16,
            ),
            preserve_default=False,
        ),
        migrations.AddField(
            "version",
            "copied_from",
            models.ForeignKey(
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="workflows.version",
            ),
        ),
        migrations.AddField(
            "version",
            "publication",
            models.PositiveIntegerField(
                editable=False,
                help_text="Counts the publications of the workflow. Empty for what is not published.",
                null=True,
            ),
        ),
        migrations.AddField(
            "version", "updated_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)
        ),
        migrations.AddField("version", "published_at", models.DateTimeField(editable=False, null=True)),
        migrations.AddField("version", "archived_at", models.DateTimeField(editable=False, null=True)),
        migrations.RunPython(publish_all, migrations.RunPython.noop),
    ]
