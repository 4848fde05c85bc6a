"""Help texts in plain English; no column changes."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """Changes what the admin shows beside fields."""

    dependencies: ClassVar[Any] = [
        ('tenants', '0003_key_names'),
    ]

    operations: ClassVar[Any] = [
        migrations.AlterField(
            model_name='apikey',
            name='known_as',
            field=models.CharField(blank=True, editable=False, help_text='The name in lower case; unique among active keys of the tenant.', max_length=600, null=True),
        ),
        migrations.AlterField(
            model_name='apikey',
            name='scopes',
            field=models.JSONField(blank=True, help_text='Scopes that restrict the role; null: no restriction.', null=True),
        ),
        migrations.AlterField(
            model_name='tenant',
            name='auth_version',
            field=models.PositiveBigIntegerField(default=0, editable=False, help_text='Counter of changes of access; see `access_changed`.'),
        ),
        migrations.AlterField(
            model_name='tenant',
            name='suspended_at',
            field=models.DateTimeField(blank=True, help_text='Time since when its credentials are refused.', null=True),
        ),
    ]
