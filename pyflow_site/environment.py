"""Configuration from the environment, checked when the process starts."""

from __future__ import annotations

import base64
import math
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.core.exceptions import ImproperlyConfigured
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from pyflow.net.files import make_private

SECRET_PROVIDERS = frozenset({"vault", "environment"})
BASE_DIR = Path(__file__).resolve().parent.parent


class Environment(BaseSettings):
    """Settings from the environment. Names are ``PYFLOW_…`` but for ``DATABASE_URL`` and ``REDIS_URL``."""

    model_config = SettingsConfigDict(env_prefix="PYFLOW_", env_file=".env", extra="ignore", populate_by_name=True)

    env: Literal["development", "production"] = "development"
    """``production`` requires real secrets and hosts, and enables all settings of Django's deploy check."""
    secret_key: str = ""
    """Signs sessions and cursors; at least 50 characters in production."""
    key_pepper: str = ""
    """Keys the in-memory cache of checked API keys. Default: the secret key."""
    master_keys: str = ""
    """``id:key,…``: keys that wrap the secrets' data keys, each 32 bytes in base64, the current one first."""
    master_key_file: Path | None = None
    """A file with the same content. In development one is created in ``home``."""
    secret_providers: str = "vault,environment"  # noqa: S105 - names of providers
    """Sources of ``{{ secrets.NAME }}``, separated by commas; the first one that has the name provides the value."""
    jwt_private_key: str = ""
    """Signs access tokens of users: an Ed25519 or P-256 key in PEM, or a file with one. Default: in development one is
    created in ``home``; in production no tokens are issued."""
    jwt_public_keys: str = ""
    """Further keys whose tokens are accepted, while a key is rotated: public keys in PEM, or a file with them."""
    jwt_issuer: str = "pyflow"
    """The issuer of access tokens."""
    proxies: int = Field(default=0, ge=0)
    """Number of your own proxies in front of the server; each appends its caller to ``X-Forwarded-For``."""
    allowed_hosts: str = "localhost,127.0.0.1,[::1]"
    """Host names that are served, separated by commas."""
    trusted_origins: str = ""
    """Origins (``https://…``) that may post forms to the admin, separated by commas."""
    home: Path = BASE_DIR / "var"
    """Directory of the single-node shape: its database, keys and files."""
    values_root: Path | None = None
    """Directory of large inputs and outputs of runs. Default: ``values`` in ``home``. All processes of a fleet, web
    and workers, need the same shared directory."""
    large_value_bytes: int = Field(default=256 * 1024, ge=1024)
    """An input or output with more bytes of JSON than this is stored there instead of in the database."""
    allowed_networks: str = ""
    """Private hosts (``*.corp.example``) and networks (``10.2.0.0/16``) that workflows may reach, by commas."""
    permit_private_networks: bool = False
    """Let workflows allow all private networks themselves (``allow_private_networks: true``). The default is true for
    the command line and the library, where users run their own files."""
    executor: Literal["inprocess", "celery"] | None = None
    """Executor of runs. Default: ``celery`` if ``REDIS_URL`` is set, else a thread of the server process."""
    event_bus: str = ""
    """Dotted path of a factory of the event bus (`pyflow.core.ports.EventBus`). Default: on the broker if it is a Redis
    and workers execute runs, else in the memory of the process."""
    lease_seconds: float = Field(default=15.0, ge=1.0)
    """Period of a lease: a run whose process stops renewing it is taken over after this time."""
    sweep_seconds: float = Field(default=2.0, gt=0.0)
    """Interval of the sweep, which finds lost and due runs."""
    linger_seconds: float = Field(default=30.0, ge=0.0)
    """Time for which a Celery worker's process stays awake after its last run, so that the next one starts at once."""
    concurrent_runs: int = Field(default=100, ge=1)
    """Maximum number of runs that one process executes at the same time."""
    default_plan: Literal["free", "pro", "enterprise"] = "enterprise"
    """Plan of new tenants. Set it to ``free`` if tenants are unknown users; ``manage.py setplan`` changes a plan."""
    db_pool: bool = True
    """Keep a pool of PostgreSQL connections (web processes; Celery workers turn it off)."""
    db_prepare: bool = True
    """Let PostgreSQL prepare frequent statements. Turn it off behind a pooler that cannot (PgBouncer before 1.21)."""
    database_url: str = Field(default="", validation_alias="DATABASE_URL")
    """``postgresql://user:password@host:port/name`` or ``sqlite:///path``. Default: SQLite in ``home``."""
    redis_url: str = Field(default="", validation_alias="REDIS_URL")
    """``redis://host:port``; a database number is the first one used. Default: none; a single node needs no Redis."""

    @field_validator("env", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @property
    def production(self) -> bool:
        """Return whether this is a production process."""
        return self.env == "production"

    @property
    def executor_kind(self) -> str:
        """``inprocess`` or ``celery``."""
        return self.executor or ("celery" if self.redis_url else "inprocess")

    @property
    def event_bus_factory(self) -> str:
        """The dotted path of what makes the event bus of a process."""
        is_fleet = self.executor_kind == "celery" and self.redis_url
        return self.event_bus or ("runs.notify.redis_bus.broker_bus" if is_fleet else "pyflow.core.bus.MemoryBus")

    def redis_database(self, offset: int) -> str:
        """The URL of one of our Redis databases, counted from the number that ``REDIS_URL`` names, or 0."""
        url = urlsplit(self.redis_url)
        first = url.path.strip("/") or "0"
        if not first.isdecimal():
            raise ImproperlyConfigured(f"REDIS_URL: {first!r} is not the number of a database")
        return urlunsplit(url._replace(path=f"/{int(first) + offset}"))

    def signing_key(self) -> str:
        """The secret key; in development one is made once and kept in ``home``."""
        if self.secret_key:
            if self.production and len(self.secret_key) < 50:
                raise ImproperlyConfigured("PYFLOW_SECRET_KEY needs at least 50 characters in production")
            return self.secret_key
        if self.production:
            raise ImproperlyConfigured("PYFLOW_SECRET_KEY is required in production: a random text of 50 characters")
        path = self.home / "secret-key"
        return read_or_create(path, lambda: secrets.token_urlsafe(50))

    def master_key_text(self) -> str:
        """The master keys as text; empty in a production environment that names none: the system check says so."""
        if self.master_keys:
            return self.master_keys
        if self.master_key_file is not None:
            try:
                return self.master_key_file.read_text()
            except (OSError, UnicodeDecodeError) as error:
                raise ImproperlyConfigured(f"PYFLOW_MASTER_KEY_FILE cannot be read: {type(error).__name__}") from None
        if self.production:
            return ""
        path = self.home / "master-key"
        return read_or_create(path, lambda: f"local:{base64.b64encode(secrets.token_bytes(32)).decode()}")

    def secret_provider_names(self) -> list[str]:
        """The names in ``secret_providers``, in order."""
        names = [name.strip() for name in self.secret_providers.split(",") if name.strip()]
        if wrong := sorted({*names} - SECRET_PROVIDERS):
            known = ", ".join(sorted(SECRET_PROVIDERS))
            raise ImproperlyConfigured(f"PYFLOW_SECRET_PROVIDERS: {wrong[0]!r} is not one of {known}")
        return names

    def token_key(self) -> str:
        """The key that signs access tokens; in development one is made once and kept in ``home``."""
        if self.jwt_private_key or self.production:
            return self.jwt_private_key
        return read_or_create(self.home / "token-key.pem", _new_token_key)


def _new_token_key() -> str:
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem.decode().strip()


def read_or_create(path: Path, make: Any) -> str:
    """The text of a private file (mode 600), made by ``make`` if there is none; two processes may start at once.

    It appears under its name once it is whole: nobody reads half of it, nor an empty one that a crash has left.
    """
    make_private(path.parent)
    if not path.exists():
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-") as file:  # its mode is 600
            file.write(make() + "\n")
            file.flush()
            with suppress(FileExistsError):
                os.link(file.name, path)
    return path.read_text().strip()


def read_environment() -> Environment:
    """The environment, or ``ImproperlyConfigured`` saying which variable is wrong and why."""
    try:
        return Environment()
    except ValidationError as error:
        wrong = [
            f"{_variable(str(detail['loc'][0]))}: {detail['msg']} (it is {detail['input']!r})"
            for detail in error.errors()
        ]
        raise ImproperlyConfigured("The environment is not usable:\n  " + "\n  ".join(wrong)) from None


def _variable(field: str) -> str:
    return field if field.isupper() else f"PYFLOW_{field.upper()}"


def _patience(environment: Environment) -> dict[str, Any]:
    """Return libpq's parameters with which both ends notice a dead connection to PostgreSQL."""
    lease = math.ceil(environment.lease_seconds)
    return {
        "connect_timeout": 5,
        # A server that is gone without a word is noticed when a lease ends, instead of after hours.
        "keepalives_idle": max(1, lease // 3),
        "keepalives_interval": max(1, lease // 5),
        "keepalives_count": 3,
        "tcp_user_timeout": lease * 1000,
        # And so is one of us: what it had locked in a transaction can be taken over with its lease.
        "options": f"-c idle_in_transaction_session_timeout={lease}s",
    }


def database(environment: Environment) -> dict[str, Any]:
    """Django's ``DATABASES["default"]`` for the environment."""
    url = urlsplit(environment.database_url)
    if not environment.database_url or url.scheme == "sqlite":
        path = Path(unquote(url.path[1:])) if environment.database_url else environment.home / "pyflow.sqlite3"
        make_private(path.parent)
        with suppress(OSError):  # SQLite would make it by the umask; its journals have the mode of the database
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": path,
            "OPTIONS": {
                # Writers queue for the lock when they begin, so a transaction never fails half-way for want of it.
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;",
            },
            # A file, not memory: other threads and processes take part in the tests.
            "TEST": {"NAME": environment.home / "test.sqlite3"},
        }
    if url.scheme not in {"postgresql", "postgres"}:
        raise ImproperlyConfigured(f"DATABASE_URL: {url.scheme!r} is not postgresql or sqlite")
    options: dict[str, Any] = {**_patience(environment), **dict(parse_qsl(url.query, keep_blank_values=True))}
    if environment.db_prepare:
        options["prepare_threshold"] = 5  # once a connection has executed one so often; `database.statements`
    if environment.db_pool:
        options["pool"] = {"min_size": 1, "max_size": 20, "timeout": 10}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(url.path[1:]),
        "USER": unquote(url.username or ""),
        "PASSWORD": unquote(url.password or ""),
        "HOST": unquote(url.hostname or ""),
        "PORT": str(url.port or ""),
        "CONN_MAX_AGE": 0 if environment.db_pool else None,
        "OPTIONS": options,
    }
