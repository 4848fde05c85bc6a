"""One valid request for each operation that a world's usual names and no body do not make valid."""

from dataclasses import dataclass, field
from typing import Any

from tenants.access import Permission

P = Permission


@dataclass(frozen=True)
class Call:
    """A request. ``names``: what parameters of its path name, by the names of a world. ``status``: of the answer."""

    body: Any = None
    names: dict[str, str] = field(default_factory=dict)
    status: int = 200
    query: str = ""


_DOCUMENT = {
    "version": 2,
    "name": "{mark}-main",
    "inputs": {"who": "string"},
    "nodes": [{"id": "{mark}", "type": "transform", "config": {"input": "{mark}", "expression": "$"}}],
}
_NEW = _DOCUMENT | {"name": "{mark}-new"}
_IDLE, _DRAFT = {"name": "idle"}, {"number": "draft"}
_WHO = {"input": {"who": "{mark}"}}

CALLS: dict[str, Call] = {
    "api_keys_create": Call({"name": "{mark}", "role": "viewer"}, status=201),
    "api_keys_rotate": Call({}, status=201),
    "api_keys_revoke": Call(status=204),
    "auth_refresh": Call({"refresh_token": "unknown {mark}"}, status=401),
    "auth_revoke": Call({"refresh_token": "unknown {mark}"}, status=204),
    "auth_token": Call({"username": "{mark}", "password": "unknown", "tenant": "{mark}-tenant"}, status=401),
    "grants_create": Call({"member": "{member_id}", "level": "run"}, status=201),
    "grants_delete": Call(status=204),
    "invitations_accept": Call({"token": "unknown {mark}", "password": "unknown"}, status=403),
    "invitations_create": Call({"email": "{mark}-new@example.org", "role": "viewer"}, status=201),
    "invitations_revoke": Call(status=204),
    "me_leave": Call(status=204),
    "members_update": Call({"role": "editor"}),
    "members_remove": Call(status=204),
    "runs_actions": Call({"action": "pause", "runs": ["{queued}", "{paused}", "{run_id}"]}),
    "runs_cancel": Call(names={"run_id": "queued"}, status=202),
    "runs_pause": Call(names={"run_id": "queued"}, status=202),
    "runs_rerun": Call({"from": "{node_id}"}, status=202),
    "runs_resume": Call(names={"run_id": "paused"}, status=202),
    "runs_retry": Call(names={"run_id": "stopped"}, status=202),
    "runs_terminate": Call(names={"run_id": "queued"}),
    "runs_signal": Call({"name": "{mark}", "payload": {"text": "{mark}"}}, {"run_id": "queued"}, 202),
    "runs_start": Call(_WHO, status=202),
    "runs_start_batch": Call({"runs": [_WHO, _WHO]}, status=202),
    "schedules_backfill": Call(
        {"from": "2020-01-01T00:00:00Z", "to": "2022-01-01T00:00:00Z"}, {"schedule_id": "idle_schedule"}, 202
    ),
    "schedules_fire": Call(names={"schedule_id": "idle_schedule"}, status=202),
    "schedules_update": Call({"paused": True}, {"schedule_id": "idle_schedule"}),
    "secrets_create": Call({"name": "NEW_SECRET", "value": "{mark} new"}, status=201),
    "secrets_replace": Call({"value": "{mark} three"}),
    "secrets_rotate": Call({"value": "{mark} four"}),
    "secrets_delete": Call(status=204),
    "secret_versions_destroy": Call(status=204),
    "tenant_update": Call({"name": "{mark} renamed"}),
    "versions_archive": Call(names={"number": "first"}),
    "versions_create": Call(_DOCUMENT, status=201),
    "versions_diff": Call(query="?from=1&to=2"),
    "versions_delete": Call(names=_DRAFT, status=204),
    "versions_publish": Call(names=_DRAFT),
    "versions_put": Call(_DOCUMENT, _DRAFT),
    "versions_rollback": Call(names={"number": "first"}, status=201),
    "workflows_create": Call(_NEW, status=201),
    "workflows_delete": Call(names=_IDLE, status=204),
    "workflows_dry_run": Call(_WHO),
    "workflows_dry_run_document": Call({"document": _NEW, "input": {"who": "{mark}"}}),
    "workflows_patch": Call({"description": "{mark} patched"}),
    "workflows_put": Call(_DOCUMENT),
    "workflows_unarchive": Call(names={"name": "old"}),
    "workflows_validate": Call(_NEW),
}

#: What each operation needs. ``None``: any credential. Operations without a credential are not here.
NEEDED: dict[str, Permission | None] = {
    "api_keys_create": P.KEYS_WRITE,
    "api_keys_list": P.KEYS_READ,
    "api_keys_read": P.KEYS_READ,
    "api_keys_revoke": P.KEYS_WRITE,
    "api_keys_rotate": P.KEYS_WRITE,
    "approvals_list": P.RUNS_READ,
    "audit_list": P.AUDIT_READ,
    "audit_verify": P.AUDIT_READ,
    "grants_create": P.WORKFLOWS_SHARE,
    "grants_delete": P.WORKFLOWS_SHARE,
    "grants_list": P.WORKFLOWS_SHARE,
    "invitations_create": P.MEMBERS_WRITE,
    "invitations_list": P.MEMBERS_READ,
    "invitations_read": P.MEMBERS_READ,
    "invitations_revoke": P.MEMBERS_WRITE,
    "me_leave": None,
    "me_read": None,
    "members_list": P.MEMBERS_READ,
    "members_read": P.MEMBERS_READ,
    "members_remove": P.MEMBERS_WRITE,
    "members_update": P.MEMBERS_WRITE,
    "nodes_list": P.WORKFLOWS_READ,
    "nodes_read": P.WORKFLOWS_READ,
    "plugins_list": P.WORKFLOWS_READ,
    "quotas_read": P.TENANT_READ,
    "run_input_read": P.RUNS_READ,
    "run_node_item_output_read": P.RUNS_READ,
    "run_node_items_list": P.RUNS_READ,
    "run_node_output_read": P.RUNS_READ,
    "run_nodes_list": P.RUNS_READ,
    "run_nodes_read": P.RUNS_READ,
    "runs_actions": P.RUNS_WRITE,
    "run_outputs_read": P.RUNS_READ,
    "runs_cancel": P.RUNS_WRITE,
    "runs_events": P.RUNS_READ,
    "runs_explain": P.RUNS_READ,
    "runs_graph": P.RUNS_READ,
    "runs_list": P.RUNS_READ,
    "runs_logs": P.RUNS_READ,
    "runs_pause": P.RUNS_WRITE,
    "runs_read": P.RUNS_READ,
    "runs_rerun": P.RUNS_WRITE,
    "runs_resume": P.RUNS_WRITE,
    "runs_retry": P.RUNS_WRITE,
    "runs_signal": P.RUNS_WRITE,
    "runs_start": P.RUNS_WRITE,
    "runs_start_batch": P.RUNS_WRITE,
    "runs_terminate": P.RUNS_WRITE,
    "schedule_fires_list": P.RUNS_READ,
    "schedules_backfill": P.RUNS_WRITE,
    "schedules_fire": P.RUNS_WRITE,
    "schedules_list": P.WORKFLOWS_READ,
    "schedules_pause": P.RUNS_WRITE,
    "schedules_preview": P.WORKFLOWS_READ,
    "schedules_read": P.WORKFLOWS_READ,
    "schedules_resume": P.RUNS_WRITE,
    "schedules_update": P.RUNS_WRITE,
    "secret_versions_destroy": P.SECRETS_WRITE,
    "secret_versions_list": P.SECRETS_READ,
    "secrets_create": P.SECRETS_WRITE,
    "secrets_delete": P.SECRETS_WRITE,
    "secrets_list": P.SECRETS_READ,
    "secrets_read": P.SECRETS_READ,
    "secrets_replace": P.SECRETS_WRITE,
    "secrets_rotate": P.SECRETS_WRITE,
    "tenant_read": P.TENANT_READ,
    "tenant_update": P.TENANT_WRITE,
    "usage_read": P.TENANT_READ,
    "versions_archive": P.WORKFLOWS_WRITE,
    "versions_create": P.WORKFLOWS_WRITE,
    "versions_delete": P.WORKFLOWS_WRITE,
    "versions_diff": P.WORKFLOWS_READ,
    "versions_list": P.WORKFLOWS_READ,
    "versions_publish": P.WORKFLOWS_WRITE,
    "versions_put": P.WORKFLOWS_WRITE,
    "versions_read": P.WORKFLOWS_READ,
    "versions_rollback": P.WORKFLOWS_WRITE,
    "workflow_runs_list": P.RUNS_READ,
    "workflows_archive": P.WORKFLOWS_WRITE,
    "workflows_create": P.WORKFLOWS_WRITE,
    "workflows_delete": P.WORKFLOWS_WRITE,
    "workflows_dry_run": P.WORKFLOWS_READ,
    "workflows_dry_run_document": P.WORKFLOWS_READ,
    "workflows_graph": P.WORKFLOWS_READ,
    "workflows_list": P.WORKFLOWS_READ,
    "workflows_patch": P.WORKFLOWS_WRITE,
    "workflows_put": P.WORKFLOWS_WRITE,
    "workflows_read": P.WORKFLOWS_READ,
    "workflows_schema": P.WORKFLOWS_READ,
    "workflows_unarchive": P.WORKFLOWS_WRITE,
    "workflows_validate": P.WORKFLOWS_READ,
}

#: Operations that no key may use, whatever its role and scopes.
NOT_FOR_KEYS = {"me_leave"}

#: Operations that answer whoever asks.
OPEN = {
    "auth_jwks",
    "auth_refresh",
    "auth_revoke",
    "auth_token",
    "health_live",
    "health_ready",
    "invitations_accept",
}
