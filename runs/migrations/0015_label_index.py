"""An index of the labels of runs, which PostgreSQL only has.

Not of those without labels: a run's row changes often while it is executed, and each change would be one of the index.
"""

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

CREATE = """
CREATE INDEX run_labels ON runs_run USING gin (labels jsonb_path_ops) WHERE labels <> '{}'::jsonb
"""


def create(apps: object, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Create the index."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(CREATE)


def drop(apps: object, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Drop the index."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP INDEX run_labels")


class Migration(migrations.Migration):
    dependencies = [("runs", "0014_run_logs")]
    operations = [migrations.RunPython(create, drop)]
