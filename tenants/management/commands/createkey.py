"""``manage.py createkey``: a new API key, shown once."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from pyflow.core.errors import PyFlowError
from tenants.api_keys import create_api_key, free_name
from tenants.services import DEFAULT_SLUG, find_or_create

#: The name of keys that were given none.
NAME = "command line"


class Command(BaseCommand):
    """Makes an API key (and its tenant, if that does not exist) and prints it."""

    help = "Create an API key and print it. It is shown once: only a hash is stored."

    def add_arguments(self, parser: CommandParser) -> None:
        """``--tenant SLUG --create --name NAME``."""
        parser.add_argument("--tenant", help=f"slug of the tenant; default: `{DEFAULT_SLUG}`, created if needed")
        parser.add_argument("--create", action="store_true", help="create the tenant if it does not exist")
        parser.add_argument("--name", help=f"name of the key; default: `{NAME}`, with a number if it is taken")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the key to stdout."""
        try:
            tenant = find_or_create(slug=options["tenant"], create=options["create"])
            _, text = create_api_key(tenant=tenant, name=options["name"] or free_name(tenant, NAME))
        except PyFlowError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(text)
