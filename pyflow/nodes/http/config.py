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
    """The kind of authorization."""
    username: str
    """Without a colon."""
    password: str
    """From a secret."""


class BearerAuth(NodeConfig):
    """A token (RFC 6750)."""

    type: Literal["bearer"]
    """The kind of authorization."""
    token: str
    """From a secret."""


class OAuth2Auth(NodeConfig):
    """A token that is fetched with the credentials of a client (RFC 6749 4.4), kept, and renewed after a 401."""

    type: Literal["oauth2_client_credentials"]
    """The kind of authorization."""
    token_url: str
    """The token endpoint."""
    client_id: str
    """The client's id."""
    client_secret: str
    """From a secret."""
    scope: str | None = None
    """Scopes, separated by spaces."""
    client_auth: Literal["basic", "body"] = "basic"
    """Place of id and secret: in a header, or in the fields of the body."""


Auth = Annotated[BasicAuth | BearerAuth | OAuth2Auth, Field(discriminator="type")]


class MultipartFile(NodeConfig):
    """A file of a multipart form."""

    name: str
    """The field's name."""
    path: str
    """The file's path in the storage."""
    filename: str | None = None
    """File name sent to the server; default: its own name."""
    content_type: str | None = None
    """Its media type; default: guessed by its name."""


class Multipart(NodeConfig):
    """A multipart form (RFC 7578)."""

    fields: Fields = Field(default_factory=dict)
    """Names and values; a list is several values."""
    files: list[MultipartFile] = Field(default_factory=list)
    """Files from the storage."""


class Paginate(NodeConfig):
    """The pages after the first one, and how they are requested."""

    next: str
    """Place of the next page's URL, absolute or relative to the page: ``link`` (the Link header, RFC 8288), a JSONPath
    into the body (``$.next``), or an expression over ``response`` (``status``, ``headers``, ``body``) and ``page``
    (from 1). A mapping replaces ``params`` of the next request. A missing or empty value ends it."""
    max_pages: PositiveInt = MAX_PAGES
    """Maximum number of pages, the first included."""
    items: JsonPath | None = None
    """JSONPath of the items in a page; a list that it finds is taken apart. Without it the bodies are kept."""


class HttpConfig(NodeConfig):
    """Config of the ``http`` node. Of ``body json form text multipart file`` at most one."""

    url: str
    """The URL: http or https, without credentials in it."""
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
    """Form of ``body`` in the output: parsed where it is JSON, else text (``auto``); parsed, or the node fails
    (``json``); text; base64 (``bytes``); ``null`` (``none``); or ``{path, size}`` of the file that it was saved to."""
    non_finite: Literal["fail", "null"] | TemplateText = "fail"
    """Treatment of `NaN`, `Infinity` and numbers such as `1e400` in a response, which JSON lacks or no float can hold:
    the node fails and names their places (``fail``), or they are ``null`` (``"null"``)."""
    save_to: str | None = None
    """With ``response: file``: the path in the storage."""
    paginate: Paginate | None = None
    """Follow pages. The output is then ``{status, headers, pages, more, items}``, or ``bodies`` for ``items``."""
    timeout: Seconds | None = TIMEOUT
    """Time limit for everything together: connecting, redirects, all pages, the last byte."""
    raise_for_status: Flag = True
    """A status other than 2xx fails the node."""
    max_response_size: PositiveInt = MAX_RESPONSE_SIZE
    """Bytes that the body may have, decompressed, all pages together."""
    allow_private_networks: Flag = False
    """Allow private and loopback addresses, if the operator lets workflows decide that."""
    follow_redirects: Flag = True
    """Follow up to 5 redirects. Cookies that they set are sent only to matching URLs, and not kept."""

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
