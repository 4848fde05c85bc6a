"""Help texts in plain English; no column changes."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """Changes what the admin shows beside fields."""

    dependencies: ClassVar[Any] = [
        ('secrets_vault', '0001_initial'),
    ]

    operations: ClassVar[Any] = [
        migrations.AlterField(
            model_name='datakey',
            name='made_under',
            field=models.CharField(editable=False, help_text='Id of the master key that wrapped it first.', max_length=64),
        ),
        migrations.AlterField(
            model_name='datakey',
            name='master_key',
            field=models.CharField(editable=False, help_text='Id of the master key that wraps it.', max_length=64),
        ),
    ]
