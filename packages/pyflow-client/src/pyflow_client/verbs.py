"""The requests that ask something of runs, described as in ``calls``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal
from uuid import UUID

from pyflow_client.calls import Call, Filter, query, run_path
from pyflow_client.explanations import ActionResults, Explanation, RerunPlan
from pyflow_client.models import Delivery, Run

StateVerb = Literal["cancel", "terminate", "pause", "resume", "retry"]
#: Asking twice is asking once; of the others, the second request may be refused for what the first one did.
_REPEATABLE = frozenset({"cancel", "pause"})


def signal(run_id: str | UUID, name: str, payload: Any, id: str | None) -> Call[Delivery]:
    """A named payload for a run. Repeatable with an ``id``: the server delivers only the first signal of one."""
    body = {"name": name, "payload": payload} | ({} if id is None else {"id": id})
    return Call("POST", f"{run_path(run_id)}/signals", Delivery, content=_json(body), repeatable=id is not None)


def state_verb(run_id: str | UUID, verb: StateVerb) -> Call[Run]:
    """Build the request of an action that changes the state of a run."""
    return Call("POST", f"{run_path(run_id)}/{verb}", Run, repeatable=verb in _REPEATABLE)


def rerun(
    run_id: str | UUID,
    start_from: str | None,
    version: str | int,
    input: Mapping[str, Any] | None,
    idempotency_key: str | None,
) -> Call[Run]:
    """A new run that repeats another one. Repeatable with an ``Idempotency-Key``."""
    body = _rerun(start_from, version) | ({} if input is None else {"input": dict(input)})
    return Call(
        "POST",
        f"{run_path(run_id)}/rerun",
        Run,
        content=_json(body),
        headers=_idempotent(idempotency_key),
        repeatable=idempotency_key is not None,
    )


def plan_rerun(run_id: str | UUID, start_from: str | None, version: str | int) -> Call[RerunPlan]:
    """The plan of a rerun."""
    body = _rerun(start_from, version) | {"plan": True}
    return Call("POST", f"{run_path(run_id)}/rerun", RerunPlan, content=_json(body))


def explain(run_id: str | UUID) -> Call[Explanation]:
    """An explanation of a run's current state."""
    return Call("GET", f"{run_path(run_id)}/explain", Explanation)


def act_on_runs(
    action: StateVerb,
    runs: Iterable[str | UUID] | None,
    filters: Mapping[str, Filter],
    limit: int | None,
    after: str | UUID | None,
    idempotency_key: str | None,
) -> Call[ActionResults]:
    """The same for many runs. Repeatable with an ``Idempotency-Key``. ``ValueError`` for ids and filters at once."""
    if (runs is None) == (not filters):
        raise ValueError("give either the ids of runs or filters")
    body: dict[str, Any] = {"action": action}
    if runs is not None:
        body["runs"] = [str(run_id) for run_id in runs]
    else:
        body["filter"] = {name: _listed(name, value) for name, value in query(filters).items()}
        body |= {} if limit is None else {"limit": limit}
        body |= {} if after is None else {"after": str(after)}
    headers, repeatable = _idempotent(idempotency_key), idempotency_key is not None
    return Call(
        "POST", "api/v1/runs/actions", ActionResults, content=_json(body), headers=headers, repeatable=repeatable
    )


#: In a query one value stands for itself; in a body they are lists.
_LISTS = frozenset({"state", "trigger", "workflow", "label"})


def _listed(name: str, value: Any) -> Any:
    if name not in _LISTS:
        return value
    return [value] if isinstance(value, str) else list(value)


def _rerun(start_from: str | None, version: str | int) -> dict[str, Any]:
    return {"version": str(version)} | ({} if start_from is None else {"from": start_from})


def _idempotent(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Idempotency-Key": key}


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body).encode()
