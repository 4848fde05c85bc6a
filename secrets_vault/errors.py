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
    """A data key is encrypted with a master key that the server does not have."""

    code: ClassVar[str] = "master_key_unknown"
    category: ClassVar[ErrorCategory] = ErrorCategory.UNAVAILABLE
    permanent: ClassVar[bool] = True


class SecretUnreadableError(PyFlowError):
    """The stored secret cannot be decrypted: it was damaged or moved."""

    code: ClassVar[str] = "secret_unreadable"
    permanent: ClassVar[bool] = True


class SecretsUnavailableError(PyFlowError):
    """The database did not answer when a node asked for a secret; another attempt may succeed."""

    code: ClassVar[str] = "secrets_unavailable"


class SecretMissingError(PyFlowError):
    """The tenant has no secret with this name."""

    code: ClassVar[str] = "secret_not_found"
    category: ClassVar[ErrorCategory] = ErrorCategory.NOT_FOUND


class SecretVersionMissingError(PyFlowError):
    """The secret has no version with this number."""

    code: ClassVar[str] = "secret_version_not_found"
    category: ClassVar[ErrorCategory] = ErrorCategory.NOT_FOUND


class SecretExistsError(PyFlowError):
    """A secret with this name already exists. Replace its value instead."""

    code: ClassVar[str] = "secret_exists"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class SecretVersionCurrentError(PyFlowError):
    """The current version is in use. Replace the value first, or delete the secret."""

    code: ClassVar[str] = "secret_version_current"
    category: ClassVar[ErrorCategory] = ErrorCategory.CONFLICT


class SecretInvalidError(PyFlowError):
    """The name or the value of the secret is not valid."""

    code: ClassVar[str] = "secret_invalid"
    category: ClassVar[ErrorCategory] = ErrorCategory.INVALID
