"""Errors of the vault. None of them ever holds a value, a key or ciphertext."""

from __future__ import annotations

from typing import ClassVar

from pyflow.core.errors import ErrorCategory, PyFlowError


class VaultNotConfiguredError(PyFlowError):
    """The server has no usable master key: set `PYFLOW_MASTER_KEYS` or `PYFLOW_MASTER_KEY_FILE`."""

    code: ClassVar[str] = "vault_not_configured"
    category: ClassVar[ErrorCategory] = ErrorCategory.UNAVAILABLE
    permanent: ClassVar[bool] = True


class MasterKeyUnknownError(PyFlowError):
    """A data key is wrapped with a master key that the server does not have (any more)."""

    code: ClassVar[str] = "master_key_unknown"
    category: ClassVar[ErrorCategory] = ErrorCategory.UNAVAILABLE
    permanent: ClassVar[bool] = True


class SecretUnreadableError(PyFlowError):
    """What is stored does not decrypt: it was damaged, or it is not where it was put."""

    code: ClassVar[str] = "secret_unreadable"
    permanent: ClassVar[bool] = True


class SecretsUnavailableError(PyFlowError):
    """The database did not answer when a node asked for a secret; another attempt may succeed."""

    code: ClassVar[str] = "secrets_unavailable"


class SecretMissingError(PyFlowError):
    """There is no secret of that name in the tenant."""

    code: ClassVar[str] = "secret_not_found"
    category: ClassVar[ErrorCategory] = ErrorCategory.NOT_FOUND


class SecretVersionMissingError(PyFlowError):
    """The secret has no version of that number."""

    code: ClassVar[str] = "secret_version_not_found"
    category: ClassVar[ErrorCategory] = ErrorCategory.NOT_FOUND


class SecretExistsError(PyFlowError):
    """A secret of that name exists already; replace its value instead."""

    code: ClassVar[str] = "secret_exists"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class SecretVersionCurrentError(PyFlowError):
    """The current version is what nodes get; replace the value first, or delete the secret."""

    code: ClassVar[str] = "secret_version_current"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class SecretInvalidError(PyFlowError):
    """The name or the value is not one that the vault takes."""

    code: ClassVar[str] = "secret_invalid"
    category: ClassVar[ErrorCategory] = ErrorCategory.INVALID
