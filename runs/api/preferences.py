"""``Prefer: wait=N`` (RFC 7240, 4.3): the client would rather wait for the result than come back for it."""

from __future__ import annotations

import re
from collections.abc import Collection
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response

from pyflow.core.states import TERMINAL_RUN_STATES
from runs.api.serializers import show_run
from runs.models import Run
from runs.services.awaiting import await_runs
from tenants.api.views import TenantView

MOST_SECONDS = 60
_WAIT = re.compile(r'wait\s*=\s*"?([0-9]{1,9})"?\s*(?:;.*)?', re.IGNORECASE)
PREFER = OpenApiParameter(
    "Prefer",
    str,
    OpenApiParameter.HEADER,
    description="`wait=N` (RFC 7240): respond when the run or runs have ended, or after N seconds (at most 60).",
)


def preferred_wait(request: Request) -> int | None:
    """For how many seconds the client wants to wait, 60 at most. A preference that is malformed is none (RFC 7240, 2).

    Of several, the first counts.
    """
    for preference in request.headers.get("Prefer", "").split(","):
        match = _WAIT.fullmatch(preference.strip())
        if match is not None:
            return min(int(match[1]), MOST_SECONDS)
    return None


def wait_for_runs(
    view: TenantView, request: Request, run_ids: Collection[UUID], states: Collection[str] = TERMINAL_RUN_STATES
) -> dict[UUID, Run] | None:
    """The runs as they are once all of them are in one of ``states``, or when the time is over that the client prefers.

    ``None`` if the client does not prefer to wait, or if as many requests as may wait in this process do so already:
    the answer is then the one without a wait.
    """
    seconds = preferred_wait(request)
    if not seconds or not run_ids:
        return None
    return await_runs(tenant_id=view.principal.tenant_id, run_ids=run_ids, seconds=seconds, states=states)


def answer_waited(
    view: TenantView, request: Request, response: Response, states: Collection[str] = TERMINAL_RUN_STATES
) -> Response:
    """The answer about one run, with ``Prefer: wait`` as the run is after that wait: 200 if it is in ``states``."""
    run_id = UUID(response.data["id"]) if "id" in (response.data or ()) else None
    runs = None if run_id is None else wait_for_runs(view, request, [run_id], states)
    run = None if runs is None or run_id is None else runs.get(run_id)
    if run is not None and run.state in states:
        response.data, response.status_code = show_run(run), 200
        applied(request, response)
    return response


def applied(request: Request, response: Response) -> None:
    """Say in the answer for how long it could have been waited (RFC 7240, 3)."""
    response.headers["Preference-Applied"] = f"wait={preferred_wait(request)}"
