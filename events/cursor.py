"""Cursors: places in the log of a tenant, as text that only this installation can make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from uuid import UUID

from django.core import signing
from django.db.models import Q

from plumbing.rest.errors import CursorError
from runs.models import EventRecord

_SALT = "pyflow.events"
_MOST_SEQ = 2**31 - 1
_LAST_ID = UUID(int=2**128 - 1)
#: The most characters of a cursor.
MAX_LENGTH = 256


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """The place after an event; the log of a tenant is read in the order of the three."""

    position: int
    seq: int
    id: UUID

    @classmethod
    def of(cls, event: EventRecord) -> Self:
        """Return the place after an event."""
        return cls(event.position, event.seq, event.pk)

    @classmethod
    def end_of(cls, position: int) -> Self:
        """Return the place after all events of a position."""
        return cls(position, _MOST_SEQ, _LAST_ID)

    def beyond(self) -> Q:
        """Return the condition of the events after this place."""
        same = Q(position=self.position) & (Q(seq__gt=self.seq) | Q(seq=self.seq, id__gt=self.id))
        # The first term is what the index of the log is asked for.
        return Q(position__gte=self.position) & (Q(position__gt=self.position) | same)

    def up_to(self) -> Q:
        """Return the condition of the events up to this place, that at it included."""
        same = Q(position=self.position) & (Q(seq__lt=self.seq) | Q(seq=self.seq, id__lte=self.id))
        return Q(position__lte=self.position) & (Q(position__lt=self.position) | same)

    def encode(self, tenant_id: UUID) -> str:
        """Return the cursor as text: letters, digits, ``-``, ``_`` and ``:``."""
        end = self.seq == _MOST_SEQ and self.id == _LAST_ID
        place = [self.position] if end else [self.position, self.seq, self.id.hex]
        return signing.Signer(salt=_salt(tenant_id)).sign_object(place)

    @classmethod
    def decode(cls, text: str, tenant_id: UUID) -> Self:
        """Return the cursor that was made for this tenant. Raises ``CursorError``."""
        try:
            place = signing.Signer(salt=_salt(tenant_id)).unsign_object(text[: MAX_LENGTH + 1])
        except (signing.BadSignature, ValueError):
            raise CursorError(
                "The cursor is not one of this tenant's log. Use `next` of a page, or the id of an event of a stream."
            ) from None
        return cls.end_of(place[0]) if len(place) == 1 else cls(place[0], place[1], UUID(place[2]))


def _salt(tenant_id: UUID) -> str:
    return f"{_SALT}.{tenant_id}"
