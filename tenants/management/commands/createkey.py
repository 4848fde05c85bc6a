"""``manage.py createkey``: a new API key, shown once."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from tenants.models import Tenant
from tenants.services import create_api_key, create_tenant


class Command(BaseCommand):
    """Makes an API key (and its tenant, if that does not exist) and prints it."""

    help = "Make an API key and print it. It is shown once: only a hash is kept."

    def add_arguments(self, parser: CommandParser) -> None:
        """``--tenant SLUG --name NAME``."""
        parser.add_argument("--tenant", default="default", help="slug of the tenant; made if it does not exist")
        parser.add_argument("--name", default="command line", help="what the key is for")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the key to stdout."""
        tenant = Tenant.objects.filter(slug=options["tenant"]).first() or create_tenant(slug=options["tenant"])
        _, text = create_api_key(tenant=tenant, name=options["name"])
        self.stdout.write(text)
