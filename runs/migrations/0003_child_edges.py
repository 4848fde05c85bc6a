"""What becomes of a child run when nobody waits for it any more."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    """One column."""

    dependencies = (("runs", "0002_language"),)

    operations = (
        migrations.AddField(
            model_name="run",
            name="on_parent_cancel",
            field=models.CharField(
                blank=True,
                default="",
                editable=False,
                help_text="What becomes of it when its parent does not wait for it any more. Empty: the parent never did.",
                max_length=16,
            ),
        ),
    )
