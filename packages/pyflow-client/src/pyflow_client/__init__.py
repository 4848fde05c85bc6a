"""A typed client of the PyFlow API: ``Client``, ``AsyncClient``, what they return and what they raise."""

from pyflow_client.asynchronous import AsyncClient
from pyflow_client.errors import (
    ClientError,
    Conflict,
    ConnectionFailed,
    Invalid,
    NotAuthenticated,
    NotFound,
    ProblemError,
    RunNotFinished,
    UnexpectedAnswer,
)
from pyflow_client.models import (
    ErrorInfo,
    Event,
    EventPage,
    Health,
    NodeRun,
    ProblemItem,
    Run,
    Wait,
    Workflow,
)
from pyflow_client.retries import Retries
from pyflow_client.synchronous import Client

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "Conflict",
    "ConnectionFailed",
    "ErrorInfo",
    "Event",
    "EventPage",
    "Health",
    "Invalid",
    "NodeRun",
    "NotAuthenticated",
    "NotFound",
    "ProblemError",
    "ProblemItem",
    "Retries",
    "Run",
    "RunNotFinished",
    "UnexpectedAnswer",
    "Wait",
    "Workflow",
]
