"""Secrets, their versions, and the data keys that these are encrypted with."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from django.core.validators import RegexValidator
from django.db import models
from django.utils import timezone

from pyflow.core.ids import new_uuid
from pyflow.core.redaction import MIN_LENGTH
from secrets_vault.envelope import data_key_place, new_key, seal, unseal, version_place
from secrets_vault.errors import SecretInvalidError, SecretUnreadableError
from secrets_vault.keys import wrapper
from tenants.scoping import TenantOwned

NAME_PATTERN = r"^[A-Z][A-Z0-9_]{0,127}\Z"
#: Bytes of UTF-8.
MAX_VALUE_BYTES = 64 * 1024


class DataKey(TenantOwned):
    """A key of one tenant that encrypts its secrets, stored wrapped with a master key."""

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    version = models.PositiveIntegerField(editable=False)
    master_key = models.CharField(max_length=64, editable=False, help_text="Id of the master key that wraps it.")
    made_under = models.CharField(
        max_length=64, editable=False, help_text="Id of the master key that wrapped it first."
    )
    wrapped = models.BinaryField(editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    rewrapped_at = models.DateTimeField(null=True, editable=False)

    class Meta(TenantOwned.Meta):
        """Versions count from 1 in a tenant; the highest encrypts."""

        abstract = False
        ordering = ("tenant", "-version")
        constraints = (models.UniqueConstraint(fields=("tenant", "version"), name="data_key_version"),)
        indexes = (models.Index(fields=("master_key",), name="data_key_by_master"),)

    def __str__(self) -> str:
        return f"data key {self.version}"

    @classmethod
    def make(cls, *, tenant_id: UUID, version: int) -> DataKey:
        """A new random key, wrapped with the current master key, not stored yet."""
        key = cls(tenant_id=tenant_id, version=version)
        key._wrap(new_key())
        key.made_under = key.master_key
        return key

    def unwrap(self) -> bytes:
        """The key itself. Raises ``MasterKeyUnknownError`` or ``SecretUnreadableError``."""
        return wrapper().unwrap(self.master_key, bytes(self.wrapped), data_key_place(self.tenant_id, self.version))

    def rewrap(self) -> None:
        """Wrap it with the current master key instead; the key itself stays, and so does all that it encrypted."""
        self._wrap(self.unwrap())
        self.rewrapped_at = timezone.now()
        self.save(update_fields=["master_key", "wrapped", "rewrapped_at"])

    def _wrap(self, key: bytes) -> None:
        keys = wrapper()
        self.master_key = keys.current
        self.wrapped = keys.wrap(key, data_key_place(self.tenant_id, self.version))


class Secret(TenantOwned):
    """A named value that workflows refer to as ``{{ secrets.NAME }}``. ``version`` is the number of the current one."""

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    name = models.CharField(max_length=128, validators=[RegexValidator(NAME_PATTERN)])
    description = models.CharField(max_length=1000, blank=True, default="")
    version = models.PositiveIntegerField(default=1, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta(TenantOwned.Meta):
        """Names are unique in a tenant."""

        abstract = False
        ordering = ("name",)
        constraints = (models.UniqueConstraint(fields=("tenant", "name"), name="secret_name_per_tenant"),)

    def __str__(self) -> str:
        return self.name


class Sealed(TenantOwned):
    """Base of rows that hold one encrypted value; keys are rotated for the rows of every subclass.

    A destroyed row keeps its times, and no ciphertext.
    """

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    data_key = models.ForeignKey(DataKey, on_delete=models.RESTRICT, null=True, related_name="+", editable=False)
    nonce = models.BinaryField(editable=False)
    ciphertext = models.BinaryField(editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    destroyed_at = models.DateTimeField(null=True, editable=False)

    class Meta(TenantOwned.Meta):
        """Options of all rows of tenants."""

        abstract = True

    def seal(self, value: str, data_key: DataKey) -> None:
        """Encrypt ``value`` with a data key; the row is not stored yet. Raises ``SecretInvalidError``."""
        self.nonce, self.ciphertext = seal(data_key.unwrap(), _checked(value), self.place(data_key))
        self.data_key = data_key

    def open(self) -> str:
        """The value. Raises ``SecretUnreadableError`` or ``MasterKeyUnknownError``; neither shows anything of it."""
        if self.data_key is None:
            raise SecretUnreadableError(f"A value of {self.owner_name} was destroyed.")
        raw = unseal(self.data_key.unwrap(), bytes(self.nonce), bytes(self.ciphertext), self.place(self.data_key))
        return raw.decode()

    def reseal(self, data_key: DataKey) -> None:
        """Encrypt the same value with another data key, and store that."""
        self.seal(self.open(), data_key)
        self.save(update_fields=["data_key", "nonce", "ciphertext"])

    @classmethod
    def destroy(cls, rows: models.QuerySet[Any]) -> None:
        """Forget the values for good; the record that there were some stays."""
        kept = rows.filter(destroyed_at__isnull=True)
        kept.update(data_key=None, nonce=b"", ciphertext=b"", destroyed_at=timezone.now())

    def place(self, data_key: DataKey) -> bytes:
        """Return where the ciphertext belongs: nowhere else does it decrypt."""
        raise NotImplementedError

    @property
    def owner_name(self) -> str:
        """The name, in the audit, of what has the value."""
        raise NotImplementedError


class SecretVersion(Sealed):
    """One value of a secret, encrypted. A destroyed version keeps its number and its times, and no ciphertext."""

    secret = models.ForeignKey(Secret, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField(editable=False)

    class Meta(TenantOwned.Meta):
        """Numbers count from 1 in a secret."""

        abstract = False
        ordering = ("secret", "-number")
        constraints = (models.UniqueConstraint(fields=("secret", "number"), name="secret_version_number"),)

    def __str__(self) -> str:
        return f"{self.secret_id} v{self.number}"

    def place(self, data_key: DataKey) -> bytes:
        return version_place(self.tenant_id, self.secret_id, self.number, data_key.version)

    @property
    def owner_name(self) -> str:
        return self.secret.name


def is_name(text: str) -> bool:
    """Return whether a secret can have this name."""
    return re.match(NAME_PATTERN, text) is not None


def _checked(value: str) -> bytes:
    """The bytes of a value that can be kept. The messages say nothing of the value."""
    try:
        raw = value.encode()
    except UnicodeEncodeError:
        raise SecretInvalidError("The value is not UTF-8 text: encode binary data, for example in base64.") from None
    if len(value) < MIN_LENGTH:
        raise SecretInvalidError(f"The value has fewer than {MIN_LENGTH} characters: too few to be masked in records.")
    if len(raw) > MAX_VALUE_BYTES:
        raise SecretInvalidError(f"The value has more than {MAX_VALUE_BYTES:,} bytes.")
    return raw
