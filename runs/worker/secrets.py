"""The secrets of a run that is executed: looked up when a node uses them, and masked for as long as the run lasts.

Which ones a run has used is recorded with it, as marks that say nothing of the values: whoever goes on with the run
after a crash reads them again, only to mask them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

from django.db import Error as DatabaseFailure

from pyflow.core.redaction import Redactor
from secrets_vault.errors import SecretsUnavailableError
from secrets_vault.providers import TenantSource

#: A node may ask on the event loop, which stands still meanwhile. Seconds.
LONGEST_LOOKUP = 5.0

Submit = Callable[..., Future[Any]]


class RunSecrets:
    """The ``SecretSource`` of one claimed run. ``submit`` has a function executed on a thread that serves only this.

    Nothing is kept: each access asks the source, so a value that was replaced is used by the nodes that start then.
    """

    def __init__(self, source: TenantSource, submit: Submit, used: Iterable[str] = ()) -> None:
        self._source = source
        self._submit = submit
        self._used = frozenset(used)
        self._redactor = Redactor()

    async def mask_with(self, redactor: Redactor) -> None:
        """Have ``redactor``, the run's, mask what the run used before it came here."""
        self._redactor = redactor
        await self._mask(self._used)

    async def adopt(self, marks: Iterable[str]) -> None:
        """Mask, and record as used, what a node of the run used in another process."""
        new = frozenset(marks) - self._used
        await self._mask(new)
        self._used |= new

    def get(self, name: str) -> str:
        """The value of a secret, from any thread.

        Raises ``KeyError`` if there is none of that name, ``SecretsUnavailableError`` if the database does not answer,
        and what the source says of a value that does not decrypt.
        """
        value, mark = self._find(name)
        self._used |= {mark}
        return value

    @property
    def marks(self) -> list[str]:
        """Return marks by which the used secrets can be found again, without their values."""
        return sorted(self._used)

    @property
    def changes(self) -> dict[str, Any]:
        """Return the changes of the run's row: the marks of the secrets it used."""
        return {"secrets_used": self.marks} if self._used else {}

    def redact(self, value: Any) -> Any:
        """``value`` without the secrets that the run used."""
        return self._redactor.redact(value)

    async def _mask(self, marks: frozenset[str]) -> None:
        if marks:
            for value in await asyncio.wrap_future(self._submit(self._source.recall, sorted(marks))):
                self._redactor.add(value)

    def _find(self, name: str) -> tuple[str, str]:
        try:
            return self._asked(name)
        except (DatabaseFailure, TimeoutError):
            pass  # a connection that broke was closed; the next question makes a new one
        try:
            return self._asked(name)
        except (DatabaseFailure, TimeoutError):
            raise SecretsUnavailableError(f"The secret {name} could not be looked up; try again.") from None

    def _asked(self, name: str) -> tuple[str, str]:
        found: tuple[str, str] = self._submit(self._source.find, name).result(LONGEST_LOOKUP)
        return found
