"""``manage.py verify_audit``: whether the record of what was done is whole."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.audit import Verification, verify
from tenants.models import Tenant


class Command(BaseCommand):
    """Reads the chain of one tenant, or of each, and names every entry that is not as it was written."""

    help = (
        "Verify the audit: exit status 1 if an entry was changed, removed, moved or cut off. Prints the number and the "
        "hash of the last entry; kept elsewhere, they show a chain that was rewritten as a whole, too."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """``--tenant SLUG``."""
        parser.add_argument("--tenant", help="slug of one tenant; default: all tenants")

    def handle(self, *args: Any, **options: Any) -> None:
        """One line per tenant to stdout, one per finding to stderr."""
        tenants = Tenant.objects.order_by("slug")
        if options["tenant"] is not None:
            tenants = tenants.filter(slug=options["tenant"])
            if not tenants.exists():
                raise CommandError(f"There is no tenant {options['tenant']!r}.")
        broken = sum(self._verify(tenant) for tenant in tenants.iterator())
        if broken:
            raise CommandError(f"{broken} finding{'s' if broken != 1 else ''}: the audit is not as it was written.")

    def _verify(self, tenant: Tenant) -> int:
        read, findings = Verification(), 0
        for finding in verify(tenant_id=tenant.pk, progress=read):
            findings += 1
            self.stderr.write(f"{tenant.slug}: entry {finding.seq} {finding.kind}: {finding.detail}")
        state = "whole" if not findings else "NOT WHOLE"
        self.stdout.write(f"{tenant.slug}: {read.entries} entries, {state}, last {read.seq} {read.hash}".rstrip())
        return findings
