"""An index for the list of all tenants' runs, newest first."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """Index the times at which runs were made."""

    dependencies: ClassVar[Any] = [("runs", "0004_decisions")]
    operations: ClassVar[Any] = [
        migrations.AddIndex(
            model_name="run",
            index=models.Index(fields=["-created_at", "-id"], name="run_newest"),
        ),
    ]
