"""``manage.py createtenant``: a new tenant, and the invitation of its first owner."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.validators import validate_email
from django.db import transaction

from pyflow.core.errors import PyFlowError
from tenants.access import Actor, Role
from tenants.invitations import invite
from tenants.services import create_tenant


class Command(BaseCommand):
    """Makes a tenant; with ``--owner`` it prints the token with which that person becomes its owner."""

    help = "Create a tenant. With --owner, print the token of an invitation: it is shown once, only a hash is stored."

    def add_arguments(self, parser: CommandParser) -> None:
        """``SLUG --name NAME --owner EMAIL``."""
        parser.add_argument("slug", help="name in URLs and logs: letters, digits, - and _")
        parser.add_argument("--name", default="", help="display name; default: the slug")
        parser.add_argument("--owner", help="e-mail address of the owner")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the token to stdout, everything else to stderr."""
        owner = options["owner"]
        if owner is not None:
            try:
                validate_email(owner)
            except ValidationError as error:
                raise CommandError(f"--owner: {' '.join(error.messages)}") from None
        try:
            with transaction.atomic():
                tenant = create_tenant(slug=options["slug"], name=options["name"])
                by = Actor.system(tenant.pk, "operator")
                token = "" if owner is None else invite(by=by, principal=None, email=owner, role=Role.OWNER)[1]
        except PyFlowError as error:
            raise CommandError(str(error)) from None
        self.stderr.write(f"Tenant {tenant.slug} {tenant.pk}")
        if token:
            self.stdout.write(token)
