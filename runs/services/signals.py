"""Send signals to runs: checks the names that a run can take, and who may decide on an approval."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import reduce
from operator import or_
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import Q
from django.db.models.fields.json import KeyTextTransform, KeyTransform

from pyflow.core.errors import Problem
from pyflow.core.ids import new_uuid
from pyflow.core.states import TERMINAL_NODE_STATES, TERMINAL_RUN_STATES, NodeState, RunState
from pyflow.core.suspension import WaitKind
from pyflow.execution.plan import MAIN, Plan, PlannedNode
from pyflow.expressions.template import is_template
from pyflow.nodes.approval import ApprovalNode, DecisionError, check_decision, may_decide
from runs.errors import NotAssigneeError, SignalNotAwaitedError
from runs.models import PLATFORM, NodeItem, NodeRun, Run, RunSignal
from runs.services.locks import lock_run
from runs.services.news import notify_executor
from tenants import audit
from tenants.access import Actor, Principal, Role
from workflows.services import plan_of

#: Of node runs, and of items: those that wait for a decision.
PENDING_APPROVAL = Q(state=NodeState.WAITING.value, wait__isnull=False, wait__details__kind=WaitKind.DECISION.value)
#: How many names, or runs, a refusal lists.
MOST_NAMES = 20


def signal_run(
    *, by: Actor, sender: Principal | None, run_id: UUID, name: str, payload: Any, signal_id: str | None
) -> bool:
    """Deliver a signal: to the node that waits for it, or to the one that will.

    ``False`` if a signal of this id was delivered before. ``sender`` is checked against the ``assignees`` of an
    approval; ``None`` is the platform itself, which may decide anything. Raises ``RunNotFoundError``,
    ``RunFinishedError``, ``SignalNotAwaitedError``, ``NotAssigneeError``, or ``DecisionError``.
    """
    with transaction.atomic():
        run = lock_run(by.tenant_id, run_id)
        known = RunSignal.objects.for_tenant(by.tenant_id).filter(run=run)
        if signal_id is not None and known.filter(dedupe_id=signal_id).exists():
            notify_executor(run)
            return False
        candidates = _candidates(run, name)
        names: list[str] | None = None
        for node in candidates:
            if node.suspending is ApprovalNode:
                names = [PLATFORM] if sender is None else sorted(names_of(sender))
                payload = _checked_decision(_asked(run, node, name), payload, sender, names)
        signal = RunSignal.objects.for_tenant(by.tenant_id).create(
            tenant_id=by.tenant_id,
            run=run,
            name=name,
            payload=payload,
            dedupe_id=signal_id or str(new_uuid()),
            sender=names,
        )
        if run.state == RunState.WAITING:
            run.move(RunState.QUEUED)
            run.save(update_fields=["state"])
        # The payload may be confidential, and is kept with the signal.
        audit.record(
            by=by, action="run.signalled", target=f"run:{run_id}", after={"signal": name, "id": signal.dedupe_id}
        )
        notify_executor(run)
    return True


def names_of(sender: Principal) -> frozenset[str]:
    """The names of a caller, as ``assignees`` of approvals have them, in lower case.

    A key has its own name and those of the member who made it; the role is the one that the credential acts with.
    """
    names = {f"role:{role}" for role in Role if role.rank <= sender.role.rank}
    if sender.kind == "key":
        names.add(f"key:{sender.name.casefold()}")
    if sender.user_id is not None:
        user = get_user_model().objects.filter(pk=sender.user_id).values_list("username", "email").first()
        names |= {f"user:{name.casefold()}" for name in user or () if name}
    return frozenset(names)


def awaited_names(plan: Plan) -> list[str]:
    """The names, and templates of names, of the signals that nodes of a plan wait for."""
    return sorted({name for _, name in _awaiting(plan)})


def pending_approvals(
    tenant_id: UUID,
    *,
    names: Collection[str] | None = None,
    workflows: Collection[str] = (),
    run_id: UUID | None = None,
) -> tuple[Any, Any]:
    """The nodes, and the items of fan-outs, of a tenant's runs that wait for a decision, oldest first.

    ``names``: only those whose assignees have one of these names, in lower case; for an owner's names that is all.
    """
    of_nodes, of_items = NodeRun.objects.for_tenant(tenant_id), NodeItem.objects.for_tenant(tenant_id)
    return _pending(of_nodes, names, workflows, run_id), _pending(of_items, names, workflows, run_id)


def _pending(rows: Any, names: Collection[str] | None, workflows: Collection[str], run_id: UUID | None) -> Any:
    rows = rows.filter(PENDING_APPROVAL).select_related("run__workflow", "run__version")
    rows = rows.defer("run__version__source", "run__version__definition", "run__input", "run__outputs", "output")
    if workflows:
        rows = rows.filter(run__workflow__name__in=workflows)
    if run_id is not None:
        rows = rows.filter(run=run_id)
    if names is not None and "role:owner" not in names:
        rows = rows.annotate(assignees=KeyTextTransform("assignees", KeyTransform("details", "wait")))
        bare = {name.removeprefix("user:") for name in names}
        # As JSON text, in either of the ways in which databases keep what is not ASCII.
        texts = {json.dumps(name, ensure_ascii=escaped) for name in {*names, *bare} for escaped in (True, False)}
        rows = rows.filter(reduce(or_, (Q(assignees__icontains=text) for text in sorted(texts)), Q()))
    return rows


def _awaiting(plan: Plan) -> Iterator[tuple[PlannedNode, str]]:
    for node in plan.nodes:
        if node.suspending is not None:
            # The key of an item is known once it waits.
            id = node.id if node.for_each is None else f"{node.id}:{{{{ item_key }}}}"
            name = node.suspending.awaited_signal(id, _config(node))
            if name is not None:
                yield node, name


def _config(node: PlannedNode) -> Mapping[str, Any]:
    return node.definition.config


def _can_be(name: str, awaited: str) -> bool:
    """Return whether a name can match a node's signal name, of which only a template may be known."""
    if not is_template(awaited):
        return name == awaited
    starts = [awaited.find(mark) for mark in ("{{", "{%", "{#") if mark in awaited]
    # Tags may take the blanks around them away.
    return name.startswith(awaited[: min(starts)].rstrip()) and name.endswith(
        awaited[awaited.rfind("}") + 1 :].lstrip()
    )


def _candidates(run: Run, name: str) -> list[PlannedNode]:
    """The nodes that wait for a signal of this name, or can. Raises ``SignalNotAwaitedError`` if none can any more."""
    plan = plan_of(run.version)
    candidates = [node for node, awaited in _awaiting(plan) if _can_be(name, awaited)]
    if not candidates:
        raise SignalNotAwaitedError(_unawaited(run, plan, name), awaited_names(plan))
    rows = NodeRun.objects.for_tenant(run.tenant_id).filter(run=run, node_id__in=[node.id for node in candidates])
    done = set(rows.filter(state=NodeState.SUCCEEDED.value).values_list("node_id", flat=True))
    # A node of another section that has succeeded is executed again after a retry of the run.
    done |= {node.id for node in candidates if _is_of_ended_item(run, node, name)}
    if all(node.section == MAIN and node.id in done for node in candidates):
        names = ", ".join(repr(node.id) for node in candidates[:MOST_NAMES])
        message = f"The signal {name!r} is not awaited any more: node {names} has succeeded, or its item has ended."
        raise SignalNotAwaitedError(message, [other for other in awaited_names(plan) if other != name])
    return candidates


def _is_of_ended_item(run: Run, node: PlannedNode, name: str) -> bool:
    """Return whether the name is that of the decision on an item that has ended."""
    if node.for_each is None or node.suspending is not ApprovalNode:
        return False
    key = name.removeprefix(node.suspending.awaited_signal(f"{node.id}:", {}))
    items = NodeItem.objects.for_tenant(run.tenant_id).filter(run=run, node_id=node.id, key=key)
    return items.filter(state__in=[state.value for state in TERMINAL_NODE_STATES]).exists()


def _unawaited(run: Run, plan: Plan, name: str) -> str:
    names = awaited_names(plan)
    there = f"it waits for {', '.join(map(repr, names[:MOST_NAMES]))}" if names else "it waits for no signal"
    message = (
        f"No node of version {run.version.number} of {run.workflow.name!r} waits for the signal {name!r}: {there}."
    )
    relatives = Run.objects.for_tenant(run.tenant_id).filter(Q(parent=run) | Q(pk=run.parent_id)).with_names()
    living = relatives.exclude(state__in=TERMINAL_RUN_STATES).order_by("pk")[:MOST_NAMES]
    elsewhere = [
        f"{other.pk} of {other.workflow.name!r}"
        for other in living
        if any(_can_be(name, awaited) for _, awaited in _awaiting(plan_of(other.version)))
    ]
    return f"{message} Send it to the run {' or '.join(elsewhere)} instead." if elsewhere else message


def _asked(run: Run, node: PlannedNode, name: str) -> Mapping[str, Any]:
    """The ``assignees`` and the ``form`` of an approval, as far as they are known now.

    Those of a node, or an item, that waits are what was rendered. Before, they are what the version says; what a
    template makes is not known, and is checked when the decision is taken.
    """
    model = NodeRun if node.for_each is None else NodeItem
    rows = model.objects.for_tenant(run.tenant_id).filter(PENDING_APPROVAL, run=run, node_id=node.id)
    wait = rows.filter(wait__signal=name).values_list("wait", flat=True).first()
    if wait is not None:
        details: Mapping[str, Any] = wait["details"]
        return details
    config = _config(node)
    return {key: config[key] for key in ("assignees", "form") if key in config and not any(_templates(config[key]))}


def _templates(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if is_template(value):
            yield value
    elif isinstance(value, Mapping | list):
        parts: Iterable[Any] = [*value, *value.values()] if isinstance(value, Mapping) else value
        for part in parts:
            yield from _templates(part)


def _checked_decision(
    asked: Mapping[str, Any], payload: Any, sender: Principal | None, names: Collection[str] | None
) -> Any:
    """The payload as it is kept: ``by`` is the sender. Raises ``NotAssigneeError`` or ``DecisionError``."""
    if sender is None or names is None or PLATFORM in names:
        check_decision(asked, payload)
        return payload
    assignees = asked.get("assignees")
    if assignees is not None and not may_decide(assignees, names):
        names = ", ".join(map(str, assignees[:MOST_NAMES]))
        raise NotAssigneeError(f"Only {names} and owners may decide. You are {_called(sender)}.")
    if isinstance(payload, Mapping) and "by" in payload:
        message = "who decides is the authenticated caller; a program says `on_behalf_of`"
        raise DecisionError([Problem("bad_decision", message, "/by")])
    check_decision(asked, payload)
    return {**payload, "by": _by(sender)}


def _by(sender: Principal) -> str:
    return f"{sender.kind}:{sender.name}"


def _called(sender: Principal) -> str:
    return f"{_by(sender)}, with the role {sender.role}"
