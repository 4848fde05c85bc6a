"""The words by which ``retry_on`` and ``non_retryable`` may speak of errors, and those that can never match."""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Final

from pyflow.core.messages import show
from pyflow.core.problems import MAX_WORD
from pyflow_sdk.errors import NodeError, PyFlowError

#: What is matched whatever the class of an error is; besides these, HTTP statuses and their classes.
KINDS: Final = frozenset({"timeout", "network", "refusal", "process_died"})
#: The codes of the engine's and the built-in nodes' errors. Written down, because their modules are loaded when they
#: are needed; a test compares.
CODES: Final = frozenset(
    """
    approval_rejected bad_items bad_schema child_run_failed child_run_refused computation_busy computation_limit
    concurrency_limit concurrency_skipped config_invalid cpu_limit cron_invalid decision_invalid
    definition_invalid document_invalid document_too_large event_loop_misuse expression_failed expression_limit
    expression_syntax expression_unknown_function expression_unknown_name expression_unsafe file_changed
    file_content file_not_found heartbeat_timeout http_status http_timeout input_invalid invalid_request
    invalid_transition
    isolated_environment_invalid item_condition items_failed jsonpath_error llm_answer_invalid llm_refused
    llm_unavailable
    mail_refused mail_server_error master_key_unknown memory_limit message_refused no_match node_error node_exit
    node_process_died node_self_cancelled node_timeout non_retryable_error not_convertible not_isolatable
    oauth2_token_refused oauth2_token_unavailable output_invalid output_not_json output_too_large path_refused
    pyflow_error response_too_large retry_condition retryable_error secret_not_found secret_unreadable
    secrets_unavailable sql_error sql_refused ssrf_blocked stored_bytes_exceeded template_error template_limit
    template_syntax template_undefined template_unsafe too_many_redirects unexpected_answer unknown_node_type
    unreachable until_condition until_limit until_timeout vault_not_configured worker_lost workflow_not_found
    """.split()  # noqa: SIM905 - read as a text
)
#: The names of their classes.
CLASSES: Final = frozenset(
    """
    ApprovalRejectedError BadItemsError ChildRunFailedError ChildRunRefusedError ComputationBusyError
    ComputationLimitError ConcurrencyLimitError ConfigInvalidError ConversionError CpuLimitError CronError
    DecisionError DefinitionError DocumentError DocumentTooLargeError EvaluationAttributeError
    EvaluationDivisionError EvaluationError EvaluationIndexError EvaluationKeyError EvaluationTypeError
    EvaluationValueError EventLoopMisuseError ExpressionLimitError ExpressionSyntaxError FanOutError
    FileChangedError FileContentError HeartbeatTimeoutError HttpStatusError HttpTimeoutError InputError
    InvalidRequestError
    InvalidTransitionError IsolatedEnvironmentError IsolatedOutputError ItemConditionError JsonPathError
    LlmAnswerError
    LlmRefusedError LlmUnavailableError MailRefusedError MailServerError MasterKeyUnknownError MemoryLimitError
    MessageRefusedError NoMatchError NodeError NodeExitError NodeProcessDiedError NodeSelfCancelledError
    NodeTimeoutError NonRetryableError NotIsolatableError NotPlainError OutputInvalidError OutputTooLargeError
    PathRefusedError PyFlowError RecordedError ResponseTooLargeError RetryConditionError RetryableError SSRFError
    SecretNotFoundError SecretUnreadableError SecretsUnavailableError SkippedByLimitError SqlError
    SqlRefusedError StorageQuotaError StoredFileMissingError TemplateError TemplateLimitError
    TemplateSecurityError TemplateSyntaxError TemplateUndefinedError TokenRefusedError TokenUnavailableError
    TooManyRedirectsError UnexpectedAnswerError UnknownFunctionError UnknownNameError UnknownNodeTypeError
    UnreachableError UnsafeExpressionError UntilConditionError UntilLimitError UntilTimeoutError
    UnusableSchemaError VaultNotConfiguredError WorkerLostError WorkflowNotFoundError
    """.split()  # noqa: SIM905 - read as a text
)
_BUILTIN: Final = frozenset(
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
)
_STATUS = re.compile(r"http_[1-5](?:[0-9]{2}|xx)")
#: What people write for a status: `5xx`, `HTTP-503`, `http503`.
_NEARLY_STATUS = re.compile(r"(?:https?|status)?[\s_.-]*([1-5](?:[0-9]{2}|xx))", re.IGNORECASE)
_CLASS = re.compile(r"_*[A-Z]\w*")
#: How like two names are, of classes and of kinds, if one is a slip of the pen and not another error's own name.
_ALIKE_CLASS: Final = 0.9
_ALIKE: Final = 0.85


def error_kinds(error: BaseException) -> frozenset[str]:
    """The names by which ``retry_on`` may speak of an error.

    Its class and base classes (``ValueError``), its code (``node_timeout``), ``timeout``, ``network`` (no answer from
    the other side), and for an HTTP status 503: ``http_503`` and ``http_5xx``.
    """
    kinds = {cls.__name__ for cls in type(error).__mro__ if cls is not object}
    if isinstance(error, PyFlowError):
        kinds.add(error.code)
    if isinstance(error, NodeError) and error.status is not None:
        kinds |= {f"http_{error.status}", f"http_{error.status // 100}xx"}
    kind = kind_of(error)
    return frozenset(kinds if kind is None else {*kinds, kind})


def kind_of(error: BaseException) -> str | None:
    """The kind of an error in one word: its own, its HTTP status (``http_503``), ``timeout`` or ``network``."""
    if isinstance(error, NodeError):
        if error.kind:
            return error.kind
        if error.status is not None:
            return f"http_{error.status}"
    names = {cls.__name__ for cls in type(error).__mro__}
    if isinstance(error, TimeoutError) or "TimeoutException" in names:
        return "timeout"
    return "network" if isinstance(error, ConnectionError) or "TransportError" in names else None


def never_match(words: Iterable[str], *, own: bool) -> Iterator[tuple[int, str, str | None]]:
    """The words that speak of no error, as ``(index, message, near miss)``.

    ``own``: the node may raise errors with kinds, codes and classes of its own. Then a word is refused only if it is
    nearly one that is known.
    """
    for index, word in enumerate(words):
        if word in KINDS or word in CODES or word in CLASSES or word in _BUILTIN or _STATUS.fullmatch(word):
            continue
        near = _meant(word, own=own)
        if near is not None or not (own or _CLASS.fullmatch(word)):
            yield index, f"{show(word, 100)} is no kind of error, so it never matches", near
        elif word.lower().startswith("http_"):
            message = f"{show(word, 100)} is no HTTP status, so it never matches: `http_503`, or the class `http_5xx`"
            yield index, message, None


def _meant(word: str, *, own: bool) -> str | None:
    """The known word that this one is nearly; ``None`` if it may be another one."""
    status = _NEARLY_STATUS.fullmatch(word)
    if status is not None:
        return f"http_{status[1].lower()}"
    plain = re.sub(r"[\s-]+", "_", word.strip()).lower()
    for known in (KINDS, CODES):
        if plain in known:
            return plain
    for known in (CLASSES, _BUILTIN):
        found = next((name for name in sorted(known) if name.lower() == plain), None)
        if found is not None:
            return found
    if not _CLASS.fullmatch(word):
        alike = get_close_matches(word[:MAX_WORD], sorted(KINDS | CODES), n=1, cutoff=_ALIKE)
    else:
        alike = [] if own else get_close_matches(word[:MAX_WORD], sorted(CLASSES | _BUILTIN), n=1, cutoff=_ALIKE_CLASS)
    return alike[0] if alike else None
