"""``manage.py createkey``: a new API key, shown once."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from pyflow.core.errors import PyFlowError
from tenants.services import DEFAULT_SLUG, create_api_key, find_or_create


class Command(BaseCommand):
    """Makes an API key (and its tenant, if that does not exist) and prints it."""

    help = "Make an API key and print it. It is shown once: only a hash is kept."

    def add_arguments(self, parser: CommandParser) -> None:
        """``--tenant SLUG --create --name NAME``."""
        parser.add_argument("--tenant", help=f"slug of the tenant; without it `{DEFAULT_SLUG}`, made if need be")
        parser.add_argument("--create", action="store_true", help="make the tenant if it does not exist")
        parser.add_argument("--name", default="command line", help="what the key is for")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the key to stdout."""
        try:
            tenant = find_or_create(slug=options["tenant"], create=options["create"])
        except PyFlowError as error:
            raise CommandError(str(error)) from None
        _, text = create_api_key(tenant=tenant, name=options["name"])
        self.stdout.write(text)
