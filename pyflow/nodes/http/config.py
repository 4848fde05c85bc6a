"""The config of the ``http`` node."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pyflow.nodes.fields import AnyValue, Flag, Headers, JsonPath, NodeConfig, PositiveInt, Seconds, TemplateText

TIMEOUT = 30.0
MAX_RESPONSE_SIZE = 10 * 1024 * 1024
MAX_PAGES = 10

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
Fields = dict[str, Any] | TemplateText
#: Of which a request has one.
BODIES = ("body", "json", "form", "text", "multipart", "file")


class BasicAuth(NodeConfig):
    """A username and a password (RFC 7617)."""

    type: Literal["basic"]
    """Which kind this is."""
    username: str
    """Without a colon."""
    password: str
    """From a secret."""


class BearerAuth(NodeConfig):
    """A token (RFC 6750)."""

    type: Literal["bearer"]
    """Which kind this is."""
    token: str
    """From a secret."""


class OAuth2Auth(NodeConfig):
    """A token that is fetched with the credentials of a client (RFC 6749 4.4), kept, and renewed after a 401."""

    type: Literal["oauth2_client_credentials"]
    """Which kind this is."""
    token_url: str
    """The token endpoint."""
    client_id: str
    """Who asks."""
    client_secret: str
    """From a secret."""
    scope: str | None = None
    """Scopes, separated by spaces."""
    client_auth: Literal["basic", "body"] = "basic"
    """Where id and secret are put: in a header, or among the fields of the body."""


Auth = Annotated[BasicAuth | BearerAuth | OAuth2Auth, Field(discriminator="type")]


class MultipartFile(NodeConfig):
    """A file of a multipart form."""

    name: str
    """The field's name."""
    path: str
    """The file's path in the storage."""
    filename: str | None = None
    """What the server is told it is called; default: its own name."""
    content_type: str | None = None
    """Its media type; default: guessed by its name."""


class Multipart(NodeConfig):
    """A multipart form (RFC 7578)."""

    fields: Fields = Field(default_factory=dict)
    """Names and values; a list is several values."""
    files: list[MultipartFile] = Field(default_factory=list)
    """Files from the storage."""


class Paginate(NodeConfig):
    """How to get at the pages that follow the first."""

    next: str
    """Where the next page is, absolute or relative to the page: ``link`` (the Link header, RFC 8288), a JSONPath into
    the body (``$.next``), or an expression over ``response`` (``status``, ``headers``, ``body``) and ``page`` (from 1).
    A mapping is taken for ``params`` of the next request. Nothing, or something empty, ends it."""
    max_pages: PositiveInt = MAX_PAGES
    """How many pages at most, the first included."""
    items: JsonPath | None = None
    """JSONPath of the items in a page; a list that it finds is taken apart. Without it the bodies are kept."""


class HttpConfig(NodeConfig):
    """What the ``http`` node needs. Of ``body json form text multipart file`` at most one."""

    url: str
    """Where to: http or https, without credentials in it."""
    method: Method | Literal["get", "post", "put", "patch", "delete", "head", "options"] | TemplateText = "GET"
    """The request method."""
    headers: Headers | None = None
    """Header names and values, sent in UTF-8. ``Host``, ``Content-Length``, ``Transfer-Encoding`` and ``Connection``
    are not yours."""
    params: Fields | None = None
    """Added to the query of the URL; a list is several values, ``null`` none."""
    auth: Auth | None = None
    """Makes the ``Authorization`` header."""
    body: AnyValue = None
    """Sent as JSON."""
    json_: AnyValue = Field(default=None, alias="json")
    """The same under the name that says it."""
    form: Fields | None = None
    """Sent as a form, ``application/x-www-form-urlencoded``."""
    text: str | None = None
    """Sent as it is, in UTF-8."""
    multipart: Multipart | None = None
    """Sent as ``multipart/form-data``."""
    file: str | None = None
    """The path of a file in the storage, which is sent."""
    response: Literal["auto", "json", "text", "bytes", "none", "file"] | TemplateText = "auto"
    """What ``body`` of the output is: parsed where it is JSON, else text (``auto``); parsed, or the node fails
    (``json``); text; base64 (``bytes``); ``null`` (``none``); or ``{path, size}`` of the file that it was saved to."""
    non_finite: Literal["fail", "null"] | TemplateText = "fail"
    """What `NaN`, `Infinity` and numbers such as `1e400` in an answer mean, which JSON lacks or no float can hold: the
    node fails and says where they are (``fail``), or they are ``null`` (``"null"``)."""
    save_to: str | None = None
    """With ``response: file``: the path in the storage."""
    paginate: Paginate | None = None
    """Follow pages. The output is then ``{status, headers, pages, more, items}``, or ``bodies`` for ``items``."""
    timeout: Seconds | None = TIMEOUT
    """How long everything together may take: connecting, redirects, all pages, the last byte."""
    raise_for_status: Flag = True
    """Whether a status other than 2xx fails the node."""
    max_response_size: PositiveInt = MAX_RESPONSE_SIZE
    """Bytes that the body may have, decompressed, all pages together."""
    allow_private_networks: Flag = False
    """Whether private and loopback addresses may be reached, where the operator lets workflows decide that."""
    follow_redirects: Flag = True
    """Whether up to 5 redirects are followed. Cookies that they set are sent to where they are for, and not kept."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        given = [name for name in BODIES if getattr(self, "json_" if name == "json" else name) is not None]
        if len(given) > 1:
            raise ValueError(f"a request has one body; give one of {', '.join(given)}")
        if (self.response == "file") != (self.save_to is not None) and not _is_template(self.response):
            raise ValueError("`response: file` and `save_to` belong together")
        if self.paginate is not None and self.response in ("file", "none", "bytes", "text"):
            raise ValueError(f"`paginate` reads the pages; it does not go with `response: {self.response}`")
        if self.auth is not None and any(name.lower() == "authorization" for name in _names(self.headers)):
            raise ValueError("`auth` makes the Authorization header; do not give it in `headers` as well")
        return self


def _is_template(value: str) -> bool:
    return "{{" in value or "{%" in value


def _names(headers: object) -> list[str]:
    return list(headers) if isinstance(headers, dict) else []
