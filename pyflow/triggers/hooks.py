"""The config of a ``webhook`` trigger in version 2: path, verification, mapping to the input, and answer."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from pyflow.core.duration import Duration
from pyflow.documents.described import DescribedModel
from pyflow.triggers.verification import Scheme, Verification

#: Seconds that a sender is kept waiting for the end of a run, at most and by default.
MAX_WAIT, DEFAULT_WAIT = 60.0, 15.0
#: Names of `trigger` in templates of an inbound webhook.
FACTS = frozenset({"body", "headers", "query", "method", "path", "received_at"})

_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]*(/[A-Za-z0-9][A-Za-z0-9._~-]*){0,7}", re.ASCII)
_SECRET = re.compile(r"[A-Z][A-Z0-9_]{0,127}|\{\{-?\s*secrets\.([A-Z][A-Z0-9_]{0,127})\s*-?\}\}", re.ASCII)
_Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
_POST: _Method = "POST"
_HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,63}$")]


class _Config(DescribedModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VerifyConfig(_Config):
    """Verification of senders. ``none`` accepts a request of anybody."""

    scheme: Scheme
    """``standard-webhooks``, ``github``, ``stripe``, ``slack``, ``hmac``, ``token`` or ``none``."""
    secret: str | None = None
    """The name of the secret in the vault, as ``NAME`` or ``{{ secrets.NAME }}``."""
    overlap: Duration = 86_400.0
    """For how long the value before the current one stays valid after the secret is replaced."""
    header: _HeaderName | None = None
    """Header of the signature (``hmac``) or the token (``token``; default ``Authorization: Bearer``)."""
    algorithm: Literal["sha256", "sha512", "sha1"] = "sha256"
    """Of ``hmac``."""
    encoding: Literal["hex", "base64"] = "hex"
    """Of the signature of ``hmac``."""
    prefix: Annotated[str, Field(max_length=32)] = ""
    """Text before the signature of ``hmac``, such as ``sha256=``."""
    timestamp_header: _HeaderName | None = None
    """Header with POSIX seconds that ``hmac`` signs before the body, with a dot between them."""
    delivery_header: _HeaderName | None = None
    """Header that identifies a delivery (``hmac``, ``token``, ``none``). Default ``Idempotency-Key``."""

    @field_validator("secret")
    @classmethod
    def _is_name(cls, value: str | None) -> str | None:
        if value is None:
            return None
        match = _SECRET.fullmatch(value.strip())
        if match is None:
            raise ValueError("is the name of a secret, as NAME or {{ secrets.NAME }}, never its value")
        return match[1] or match[0]

    @model_validator(mode="after")
    def _fits_scheme(self) -> VerifyConfig:
        scheme, given = self.scheme, self.model_fields_set
        if scheme is Scheme.NONE and self.secret is not None:
            raise ValueError("`scheme: none` checks nothing and takes no `secret`")
        if scheme is not Scheme.NONE and self.secret is None:
            raise ValueError(f"`scheme: {scheme}` needs a `secret`: the name of one in the vault")
        if scheme is Scheme.HMAC and self.header is None:
            raise ValueError("`scheme: hmac` needs the `header` of the signature")
        allowed = _OPTIONS.get(scheme, frozenset())
        foreign = sorted(given - allowed - {"scheme", "secret", "overlap"})
        if foreign:
            raise ValueError(f"`scheme: {scheme}` has no option {', '.join(f'`{name}`' for name in foreign)}")
        return self

    def verification(self) -> Verification:
        """Return the scheme with its options."""
        return Verification(
            scheme=self.scheme,
            header=self.header or "",
            algorithm=self.algorithm,
            encoding=self.encoding,
            prefix=self.prefix,
            timestamp_header=self.timestamp_header or "",
            delivery_header=self.delivery_header or "",
        )


_OPTIONS = {
    Scheme.HMAC: frozenset({"header", "algorithm", "encoding", "prefix", "timestamp_header", "delivery_header"}),
    Scheme.TOKEN: frozenset({"header", "delivery_header"}),
    Scheme.NONE: frozenset({"delivery_header"}),
}


class AnswerConfig(_Config):
    """The answer after the end of the run, or after ``wait``."""

    wait: Annotated[Duration, Field(gt=0, le=MAX_WAIT)] = DEFAULT_WAIT
    """Time for which the sender waits for the answer. A run that has not ended by then is answered 202 with its id."""
    status: Annotated[int, Field(ge=200, le=599)] | str | None = None
    """Status of the answer, or a template that gives one. Default: 200, or 502 if the run did not succeed."""
    body: Any = None
    """The answer's JSON body, with templates over ``trigger`` and ``run``. Default: the run's outputs."""

    @field_validator("status")
    @classmethod
    def _is_status(cls, value: int | str | None) -> int | str | None:
        if isinstance(value, str) and "{{" not in value:
            raise ValueError("is a number from 200 to 599, or a template that gives one")
        return value


class WebhookConfig(_Config):
    """The ``config`` of a ``webhook`` trigger."""

    path: Annotated[str, Field(max_length=200)]
    """Requests to ``/hooks/{tenant}/{path}`` start runs. Unique in the tenant."""
    verify: VerifyConfig
    """Verification of senders."""
    methods: Annotated[list[_Method], Field(min_length=1)] = Field(default_factory=lambda: [_POST])
    """Methods that are accepted."""
    input: dict[str, Any] | str | None = None
    """Templates over ``trigger``, which give the run's input. Default: the body, if it is an object."""
    answer: Literal["accepted", "wait"] | AnswerConfig = "accepted"
    """``accepted``: 202 with the run's id at once. ``wait``: what the run gives."""
    rate_limit: Annotated[int, Field(ge=1, le=10_000)] = 600
    """Verified requests a minute; beyond, 429."""

    @field_validator("path")
    @classmethod
    def _is_path(cls, value: str) -> str:
        path = value.strip("/")
        if not _PATH.fullmatch(path):
            raise ValueError(
                "is made of up to 8 parts with '/' between them, each of letters, digits, '.', '_', '~', '-' and"
                " beginning with a letter or digit"
            )
        return path

    @property
    def waits(self) -> AnswerConfig | None:
        """Return the options of an answer after the end of the run; ``None``: the answer does not wait for it."""
        if isinstance(self.answer, AnswerConfig):
            return self.answer
        return AnswerConfig() if self.answer == "wait" else None
