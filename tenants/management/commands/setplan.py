"""``manage.py setplan``."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.access import Actor
from tenants.errors import PlanError
from tenants.models import Tenant
from tenants.plans import Plan, Quota
from tenants.quotas import set_plan


class Command(BaseCommand):
    """Gives a tenant a plan and, beside it, limits of its own."""

    help = "Set the plan of a tenant. Replaces all limits of its own by the ones given here."

    def add_arguments(self, parser: CommandParser) -> None:
        """``SLUG PLAN [--limit NAME=VALUE …]``."""
        parser.add_argument("slug", help="slug of the tenant")
        parser.add_argument("plan", help=", ".join(Plan))
        parser.add_argument(
            "--limit",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help=f"a whole number, or `none` for no limit; names: {', '.join(Quota)}",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Say what the tenant has now; ``CommandError`` if the tenant, the plan or a limit does not exist."""
        tenant = Tenant.objects.filter(slug=options["slug"]).first()
        if tenant is None:
            raise CommandError(f"There is no tenant {options['slug']!r}.")
        try:
            overrides = dict(_limit(text) for text in options["limit"])
            by = Actor.system(tenant.pk, "setplan")
            tenant = set_plan(tenant=tenant, plan=options["plan"], overrides=overrides, by=by)
        except PlanError as error:
            raise CommandError(str(error)) from None
        own = "".join(f", {name} {'unlimited' if limit is None else limit}" for name, limit in tenant.limits.items())
        self.stdout.write(f"{tenant.slug}: {tenant.plan}{own}")


def _limit(text: str) -> tuple[str, int | None]:
    name, _, value = text.partition("=")
    if value == "none":
        return name, None
    if not (value.isascii() and value.isdecimal()):
        raise PlanError(f"--limit {text}: write NAME=VALUE, where VALUE is a whole number or `none`.")
    return name, int(value)
