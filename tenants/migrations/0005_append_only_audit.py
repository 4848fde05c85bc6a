"""The audit's table takes new rows and nothing else, whoever asks the database.

On SQLite a table that a later migration rebuilds loses its triggers: such a migration creates them again.
"""

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

MESSAGE = "the audit is append-only"
POSTGRESQL = f"""
CREATE FUNCTION tenants_audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '{MESSAGE}' USING ERRCODE = 'integrity_constraint_violation';
END
$$;
CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE ON tenants_auditentry
    FOR EACH ROW EXECUTE FUNCTION tenants_audit_append_only();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON tenants_auditentry
    FOR EACH STATEMENT EXECUTE FUNCTION tenants_audit_append_only();
"""
POSTGRESQL_UNDO = """
DROP TRIGGER audit_no_truncate ON tenants_auditentry;
DROP TRIGGER audit_no_change ON tenants_auditentry;
DROP FUNCTION tenants_audit_append_only();
"""
# `INSERT OR REPLACE` deletes without a trigger on DELETE: a row that is there already is therefore refused on INSERT.
SQLITE = (
    f"CREATE TRIGGER audit_no_update BEFORE UPDATE ON tenants_auditentry "
    f"BEGIN SELECT RAISE(ABORT, '{MESSAGE}'); END",
    f"CREATE TRIGGER audit_no_delete BEFORE DELETE ON tenants_auditentry "
    f"BEGIN SELECT RAISE(ABORT, '{MESSAGE}'); END",
    f"CREATE TRIGGER audit_no_replace BEFORE INSERT ON tenants_auditentry "
    f"WHEN EXISTS (SELECT 1 FROM tenants_auditentry WHERE id = NEW.id OR (tenant_id = NEW.tenant_id AND seq = NEW.seq)) "
    f"BEGIN SELECT RAISE(ABORT, '{MESSAGE}'); END",
)
SQLITE_UNDO = ("DROP TRIGGER audit_no_replace", "DROP TRIGGER audit_no_delete", "DROP TRIGGER audit_no_update")


def protect(apps: object, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Create the triggers."""
    _execute(schema_editor, (POSTGRESQL,), SQLITE)


def unprotect(apps: object, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Drop the triggers."""
    _execute(schema_editor, (POSTGRESQL_UNDO,), SQLITE_UNDO)


def _execute(
    schema_editor: BaseDatabaseSchemaEditor, postgresql: tuple[str, ...], sqlite: tuple[str, ...]
) -> None:
    for statement in postgresql if schema_editor.connection.vendor == "postgresql" else sqlite:
        schema_editor.execute(statement)


class Migration(migrations.Migration):
    dependencies = [("tenants", "0004_tenant_resources")]
    operations = [migrations.RunPython(protect, unprotect)]
