"""``manage.py suspendtenant``: refuse the credentials of a tenant, or take them again."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.models import Tenant
from tenants.services import resume_tenant, suspend_tenant


class Command(BaseCommand):
    """Suspends a tenant. Tenants are not deleted, because their audit is not."""

    help = "Refuse every credential of a tenant until it is resumed (--resume). Nothing is deleted."

    def add_arguments(self, parser: CommandParser) -> None:
        """``SLUG [--resume]``."""
        parser.add_argument("slug")
        parser.add_argument("--resume", action="store_true", help="accept its credentials again")

    def handle(self, *args: Any, **options: Any) -> None:
        """Say what the tenant is now."""
        tenant = Tenant.objects.filter(slug=options["slug"]).first()
        if tenant is None:
            raise CommandError(f"There is no tenant {options['slug']!r}.")
        (resume_tenant if options["resume"] else suspend_tenant)(tenant=tenant)
        self.stdout.write(f"{tenant.slug} is {'active' if options['resume'] else 'suspended'}")
