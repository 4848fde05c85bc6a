"""Errors of the client. All of them are a ``ClientError``."""

from __future__ import annotations

from collections.abc import Sequence

from pyflow_client.models import ProblemItem


class ClientError(Exception):
    """Base of all errors of this package."""


class ConnectionFailed(ClientError):  # noqa: N818 - says what happened, as the API's users know it
    """No answer: the server is away, the connection broke, or time ran out. ``__cause__`` is httpx2's error."""


class UnexpectedAnswer(ClientError):  # noqa: N818 - see above
    """A successful answer that is not what the API gives; most likely the address is not that of PyFlow."""


class RunNotFinished(ClientError, TimeoutError):  # noqa: N818 - see above
    """The run went on for longer than ``wait`` was willing to wait. It still runs."""


class ProblemError(ClientError):
    """The server refused the request: an RFC 9457 problem document.

    ``status`` is the HTTP status, ``code`` stable and for programs, ``detail`` for people. ``errors`` lists what is
    wrong with the request, where that is known; ``request_id`` finds it in the server's logs; ``retry_after`` is in
    seconds.
    """

    def __init__(
        self,
        *,
        status: int,
        code: str,
        detail: str,
        errors: Sequence[ProblemItem] = (),
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.request_id = request_id
        self.retry_after = retry_after
        super().__init__(detail)

    def __str__(self) -> str:
        more = [f"\n  {item.pointer or '/'}: {item.detail}" for item in self.errors]
        return f"{self.status} {self.code}: {self.detail}{''.join(more)}"


class NotAuthenticated(ProblemError):  # noqa: N818 - see above
    """401: the API key is missing, or not valid any more."""


class NotFound(ProblemError):  # noqa: N818 - see above
    """404: there is no such thing, or none that this key may see."""


class Conflict(ProblemError):  # noqa: N818 - see above
    """409: the name is taken, or the run has ended."""


class Invalid(ProblemError):  # noqa: N818 - see above
    """400 or 422: the workflow, the input or the request is not valid; ``errors`` lists why."""


class EventsRemoved(ProblemError):  # noqa: N818 - see above
    """410: events after the cursor were removed by retention. ``oldest`` is the cursor to continue from."""

    oldest: str = ""


CLASS_OF: dict[int, type[ProblemError]] = {
    400: Invalid,
    401: NotAuthenticated,
    404: NotFound,
    409: Conflict,
    410: EventsRemoved,
    422: Invalid,
}
