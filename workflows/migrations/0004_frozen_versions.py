from django.db import migrations, models

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


class Migration(migrations.Migration):
    """After the rows have their states: PostgreSQL alters no table that has work left to do in the transaction."""

    dependencies = [("workflows", "0003_version_states")]

    operations = [
        migrations.AddConstraint(
            "version",
            models.UniqueConstraint(fields=("workflow", "publication"), name="publication_per_workflow"),
        ),
        migrations.AddConstraint(
            "version",
            models.CheckConstraint(
                condition=models.Q(state="published", publication__isnull=False)
                | (~models.Q(state="published") & models.Q(publication__isnull=True)),
                name="publication_of_published",
            ),
        ),
        migrations.RunPython(freeze, thaw),
    ]
