"""``manage.py prune``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from runs.storage.retention import prune
from tenants.models import Tenant


class Command(BaseCommand):
    """Removes what is kept no longer: runs beyond their tenants' retention, and what is left over."""

    help = "Delete finished runs after the retention period of their tenants' plans, and other expired rows."

    def add_arguments(self, parser: CommandParser) -> None:
        """``[--dry-run] [--tenant SLUG] [--older-than DAYS]``."""
        parser.add_argument("--dry-run", action="store_true", help="print the counts, delete nothing")
        parser.add_argument("--tenant", metavar="SLUG", help="delete only runs of this tenant")
        parser.add_argument(
            "--older-than",
            metavar="DAYS",
            help="delete runs finished at least DAYS days ago, whatever the plans say; 0: all finished runs",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Say what was removed; ``CommandError`` if there is no such tenant, or DAYS is no number."""
        tenant = None
        if options["tenant"] is not None:
            tenant = Tenant.objects.filter(slug=options["tenant"]).first()
            if tenant is None:
                raise CommandError(f"There is no tenant {options['tenant']!r}.")
        rehearsal = options["dry_run"]
        done = prune(tenant=tenant, older_than=_days(options["older_than"]), dry_run=rehearsal, most=2**31)
        for slug, count in done.runs.items():
            self.stdout.write(f"{slug}: {count:,} runs")
        others = {
            "events outside of runs": done.others["events"],
            "answers to idempotent requests": done.others.get("answers", 0),
            "expired refresh tokens": done.others.get("refresh_tokens", 0),
            "runs that are gone, whose values were left": done.others["values"],
        }
        for what, count in others.items():
            if count:
                self.stdout.write(f"{count:,} {what}")
        if not done.runs and not any(others.values()):
            self.stdout.write("There is nothing to remove.")
        elif rehearsal:
            self.stdout.write("Nothing was removed: this was a rehearsal.")


def _days(text: str | None) -> timedelta | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 5):
        raise CommandError(f"--older-than {text}: write a whole number of days.")
    return timedelta(days=int(text))
