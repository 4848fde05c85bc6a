"""``manage.py repaircounters``."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from runs.storage.counters import repair_counters
from tenants.models import Tenant


class Command(BaseCommand):
    """Compares the counters of quotas with their rows, and repairs those that differ."""

    help = "Compare the counters of tenants' quotas with the counted rows, and repair counters that differ."

    def add_arguments(self, parser: CommandParser) -> None:
        """``[--tenant SLUG]``."""
        parser.add_argument("--tenant", metavar="SLUG", help="only the counters of this tenant")

    def handle(self, *args: Any, **options: Any) -> None:
        """Say what was repaired; ``CommandError`` if there is no such tenant."""
        tenant = None
        if options["tenant"] is not None:
            tenant = Tenant.objects.filter(slug=options["tenant"]).first()
            if tenant is None:
                raise CommandError(f"There is no tenant {options['tenant']!r}.")
        repaired = repair_counters(tenant)
        for each in repaired:
            self.stdout.write(f"{each.tenant}: {each.quota} said {each.said:,}, and is {each.should_say:,} now")
        if not repaired:
            self.stdout.write("Every counter says what its rows say.")
