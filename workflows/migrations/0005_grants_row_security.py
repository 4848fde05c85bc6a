from django.db import migrations

#: Guardian's rows name an object of any kind; ours are workflows, whose own policy says whether they are to be seen.
VISIBLE = """EXISTS (SELECT FROM workflows_workflow w WHERE w.id =
    CASE WHEN object_pk ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN object_pk::uuid END)"""
TABLES = ("guardian_userobjectpermission", "guardian_groupobjectpermission")


def enable(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        for table in TABLES:
            schema_editor.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            schema_editor.execute(f"CREATE POLICY pyflow_tenant ON {table} USING ({VISIBLE}) WITH CHECK ({VISIBLE})")


def disable(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        for table in TABLES:
            schema_editor.execute(f"DROP POLICY pyflow_tenant ON {table}")
            schema_editor.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")


class Migration(migrations.Migration):
    dependencies = [
        ("workflows", "0004_frozen_versions"),
        ("guardian", "0003_remove_groupobjectpermission_guardian_gr_content_ae6aec_idx_and_more"),
    ]

    operations = [migrations.RunPython(enable, disable)]
