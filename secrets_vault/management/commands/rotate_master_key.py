"""``manage.py rotate_master_key``: wrap all data keys with the current master key, while the platform goes on."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from secrets_vault.errors import VaultNotConfiguredError
from secrets_vault.rotation import Rotation, abandon_lost_keys, rotate_master_key


class Command(BaseCommand):
    """Killed half-way and started again, it does what is left."""

    help = "Wrap every data key with the current master key (the first of PYFLOW_MASTER_KEYS). Safe to repeat."

    def add_arguments(self, parser: CommandParser) -> None:
        """``--batch-size``, ``--data-keys``."""
        parser.add_argument("--batch-size", type=int, default=100, help="Rows per transaction.")
        parser.add_argument(
            "--data-keys",
            action="store_true",
            help="Also replace data keys that were made under another master key, and encrypt the secrets anew.",
        )

        parser.add_argument(
            "--abandon-lost",
            action="store_true",
            help="First give up the values whose master key is lost. They can never be read again.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Rotate, and print the progress after each batch; a row that cannot be done is an error at the end."""
        if options["batch_size"] < 1:
            raise CommandError("--batch-size is at least 1")
        try:
            if options["abandon_lost"]:
                self.stdout.write(f"Values given up, because their master key is lost: {abandon_lost_keys()}.")
            done = rotate_master_key(
                batch_size=options["batch_size"], data_keys=options["data_keys"], on_batch=self._report
            )
        except VaultNotConfiguredError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(
            f"Data keys wrapped with {done.master_key}: {done.data_keys} now, {done.already} before. "
            f"Data keys replaced: {done.replaced}; values encrypted anew: {done.secrets}."
        )
        if done.failed:
            raise CommandError("Not everything could be done:\n  " + "\n  ".join(done.failed))

    def _report(self, done: Rotation) -> None:
        self.stdout.write(f"{done.data_keys} data keys, {done.secrets} values")
        self.stdout.flush()
