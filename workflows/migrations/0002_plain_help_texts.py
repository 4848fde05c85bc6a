"""Help texts in plain English; no column changes."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """Changes what the admin shows beside fields."""

    dependencies: ClassVar[Any] = [
        ('workflows', '0001_initial'),
    ]

    operations: ClassVar[Any] = [
        migrations.AlterField(
            model_name='version',
            name='publication',
            field=models.PositiveIntegerField(editable=False, help_text='Number of the publication in the workflow. Empty: not published.', null=True),
        ),
        migrations.AlterField(
            model_name='workflow',
            name='revision',
            field=models.PositiveIntegerField(default=0, editable=False, help_text='Counter of changes, for the `ETag`.'),
        ),
    ]
