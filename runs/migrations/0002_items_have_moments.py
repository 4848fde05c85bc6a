
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('runs', '0001_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='nodeitem',
            name='started_at',
            field=models.DateTimeField(blank=True, help_text='When its first attempt began.', null=True),
        ),
        migrations.AddField(
            model_name='nodeitem',
            name='wake_at',
            field=models.DateTimeField(blank=True, help_text='When its next attempt is due.', null=True),
        ),
    ]
