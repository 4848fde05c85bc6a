import django.db.models.deletion
import django.db.models.manager
import django.utils.timezone
import pyflow.core.ids
from django.db import migrations, models

from tenants.row_security import EnableRowSecurity, GrantToWeb


#: Columns of a version that stay as they are once it is no draft; `workflows.models.FROZEN`.
FROZEN = ("workflow_id", "number", "source", "source_format", "definition", "checksum", "published_at")
MESSAGE = "a published version never changes"
POSTGRESQL = f"""
CREATE OR REPLACE FUNCTION pyflow_version_is_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION '{MESSAGE}' USING ERRCODE = 'integrity_constraint_violation'; END $$;
CREATE TRIGGER version_is_frozen BEFORE UPDATE ON workflows_version FOR EACH ROW
WHEN (OLD.state <> 'draft' AND (NEW.state = 'draft' OR {{changed}})) EXECUTE FUNCTION pyflow_version_is_frozen();
"""
# SQLite drops the trigger when Django rebuilds the table for a later migration: that one has to make it again.
SQLITE = f"""
CREATE TRIGGER version_is_frozen BEFORE UPDATE ON workflows_version
WHEN OLD.state <> 'draft' AND (NEW.state = 'draft' OR {{changed}}) BEGIN SELECT RAISE(ABORT, '{MESSAGE}'); END
"""


def freeze(apps, schema_editor):
    """Let the database refuse what the model refuses."""
    if schema_editor.connection.vendor == "postgresql":
        changed = " OR ".join(f"NEW.{column} IS DISTINCT FROM OLD.{column}" for column in FROZEN)
        schema_editor.execute(POSTGRESQL.format(changed=changed), None)
    elif schema_editor.connection.vendor == "sqlite":
        changed = " OR ".join(f"NEW.{column} IS NOT OLD.{column}" for column in FROZEN)
        schema_editor.execute(SQLITE.format(changed=changed), None)


def thaw(apps, schema_editor):
    """Without the trigger."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP TRIGGER version_is_frozen ON workflows_version")
    elif schema_editor.connection.vendor == "sqlite":
        schema_editor.execute("DROP TRIGGER version_is_frozen")


#: Guardian's rows name an object of any kind; ours are workflows, whose own policy says whether they are to be seen.
VISIBLE = """EXISTS (SELECT FROM workflows_workflow w WHERE w.id =
    CASE WHEN object_pk ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN object_pk::uuid END)"""
PRIVILEGES = "SELECT, INSERT, DELETE"


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('guardian', '0003_remove_groupobjectpermission_guardian_gr_content_ae6aec_idx_and_more'),
        ('tenants', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='Workflow',
            fields=[
                ('id', models.UUIDField(default=pyflow.core.ids.new_uuid, editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=128)),
                ('description', models.TextField(blank=True, default='')),
                ('labels', models.JSONField(blank=True, default=dict)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('updated_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('archived_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('revision', models.PositiveIntegerField(default=0, editable=False, help_text='Counts its changes, for its `ETag`.')),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
            ],
            options={
                'ordering': ('name',),
                'abstract': False,
                'base_manager_name': 'unscoped',
                'default_manager_name': 'unscoped',
                'constraints': [
                    models.UniqueConstraint(fields=('tenant', 'name'), name='workflow_name_per_tenant'),
                ],
            },
            managers=[
                ('unscoped', django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name='Version',
            fields=[
                ('id', models.UUIDField(default=pyflow.core.ids.new_uuid, editable=False, primary_key=True, serialize=False)),
                ('number', models.PositiveIntegerField(editable=False)),
                ('state', models.CharField(choices=[('draft', 'Draft'), ('published', 'Published'), ('archived', 'Archived')], editable=False, max_length=16)),
                ('source', models.TextField(editable=False)),
                ('source_format', models.CharField(choices=[('yaml', 'YAML'), ('json', 'JSON')], editable=False, max_length=4)),
                ('definition', models.TextField(editable=False)),
                ('checksum', models.CharField(editable=False, help_text='SHA-256 of the canonical definition.', max_length=64)),
                ('publication', models.PositiveIntegerField(editable=False, help_text='Counts the publications of the workflow. Empty for what is not published.', null=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('updated_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('published_at', models.DateTimeField(editable=False, null=True)),
                ('archived_at', models.DateTimeField(editable=False, null=True)),
                ('copied_from', models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='workflows.version')),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='tenants.tenant')),
                ('workflow', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='versions', to='workflows.workflow')),
            ],
            options={
                'ordering': ('workflow', '-number'),
                'abstract': False,
                'base_manager_name': 'unscoped',
                'default_manager_name': 'unscoped',
                'constraints': [
                    models.UniqueConstraint(fields=('workflow', 'number'), name='version_number_per_workflow'),
                    models.UniqueConstraint(fields=('workflow', 'publication'), name='publication_per_workflow'),
                    models.CheckConstraint(condition=models.Q(models.Q(('publication__isnull', False), ('state', 'published')), models.Q(models.Q(('state', 'published'), _negated=True), ('publication__isnull', True)), _connector='OR'), name='publication_of_published'),
                ],
            },
            managers=[
                ('unscoped', django.db.models.manager.Manager()),
            ],
        ),
        migrations.RunPython(freeze, thaw),
        EnableRowSecurity("workflows", "Workflow"),
        EnableRowSecurity("workflows", "Version"),
        GrantToWeb("guardian", "UserObjectPermission", PRIVILEGES, read=VISIBLE, write=VISIBLE),
        GrantToWeb("guardian", "GroupObjectPermission", PRIVILEGES, read=VISIBLE, write=VISIBLE),
    ]
