"""Each error class knows its category; the API answers each code with the status that it has always had."""

from importlib import import_module

from pyflow_sdk.errors import ErrorCategory, NodeError, PyFlowError
from pyflow_site.problems import STATUS_OF, documented_errors

CODES = {
    400: {
        "cursor_invalid",
        "document_invalid",
        "hook_body_invalid",
        "idempotency_key_invalid",
    },
    401: {
        "authentication_failed",
        "login_failed",
        "token_invalid",
    },
    402: {
        "plan_limit_reached",
    },
    403: {
        "beyond_own_rights",
        "forbidden",
        "invitation_invalid",
        "not_assignee",
        "quota_exceeded",
    },
    404: {
        "api_key_not_found",
        "delivery_not_found",
        "event_trigger_not_found",
        "grant_not_found",
        "hook_not_found",
        "inbound_hook_not_found",
        "invitation_not_found",
        "member_not_found",
        "node_not_found",
        "node_type_not_found",
        "run_not_found",
        "schedule_not_found",
        "secret_not_found",
        "secret_version_not_found",
        "trigger_failure_not_found",
        "version_not_found",
        "webhook_not_found",
        "workflow_not_found",
    },
    409: {
        "api_key_name_taken",
        "api_key_not_usable",
        "hook_path_taken",
        "idempotency_in_flight",
        "invitation_closed",
        "invitation_exists",
        "last_owner",
        "member_exists",
        "run_finished",
        "run_state",
        "run_undone",
        "schedule_inactive",
        "schedule_invalid",
        "secret_exists",
        "secret_version_current",
        "signal_not_awaited",
        "trigger_failure_resolved",
        "version_state",
        "webhook_inactive",
        "webhook_rotation_overlap",
        "workflow_archived",
        "workflow_exists",
        "workflow_in_use",
        "workflow_not_published",
    },
    410: {
        "events_removed",
    },
    412: {
        "precondition_failed",
    },
    413: {
        "document_too_large",
        "event_too_large",
    },
    415: {
        "hook_body_unsupported",
    },
    422: {
        "backfill_invalid",
        "computation_limit",
        "decision_invalid",
        "definition_invalid",
        "event_loop",
        "graph_too_large",
        "hook_input_invalid",
        "idempotency_mismatch",
        "input_invalid",
        "not_convertible",
        "password_invalid",
        "plan_invalid",
        "rerun_invalid",
        "secret_invalid",
        "trigger_input_invalid",
        "webhook_url_refused",
    },
    428: {
        "precondition_required",
    },
    429: {
        "rate_limited",
        "too_many_failures",
    },
    500: {
        "audit_broken",
        "value_corrupt",
        "value_missing",
    },
    503: {
        "computation_busy",
        "master_key_unknown",
        "tokens_disabled",
        "vault_not_configured",
    },
}


def test_every_code_keeps_its_status():
    for module in ("pyflow_site.urls", "pyflow.upgrade.convert"):  # every app, and what only the command line loads
        import_module(module)
    errors = [cls for cls in documented_errors() if not cls.__module__.startswith("tests.")]
    found = {(cls.code, STATUS_OF[cls.category]) for cls in errors}
    assert found == {(code, status) for status, codes in CODES.items() for code in codes}


def test_every_category_has_a_status():
    assert set(STATUS_OF) == set(ErrorCategory)


def test_a_subclass_inherits_the_category():
    class _MissingError(PyFlowError):
        category = ErrorCategory.NOT_FOUND

    class _SpecialError(_MissingError):
        pass

    assert _SpecialError.category is ErrorCategory.NOT_FOUND


def test_errors_of_nodes_are_internal_to_the_api():
    assert NodeError("no", kind="http_503").category is ErrorCategory.INTERNAL
