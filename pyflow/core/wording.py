"""Puts what Jinja2, PyYAML and Python say of a document into words that name the remedy.

What has no words here is passed on as it was said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pyflow.core.messages import show
from pyflow.core.problems import MAX_KNOWN, suggest

if TYPE_CHECKING:
    import yaml

_SPACES = "a tab: YAML is indented with spaces only"
_QUOTES = "put quotes around the whole value"
#: A value that begins with a template, or an item of a list or mapping in one line that does.
_BARE_TEMPLATE = re.compile(r"(?:[:\[,]|-)\s+\{\{|^\s*\{\{")


def hint(near: str | None) -> str:
    """`` (did you mean 'name'?)``, or nothing."""
    return f" (did you mean {near!r}?)" if near else ""


# --- YAML


def yaml_reason(error: yaml.MarkedYAMLError, text: str) -> str:
    """Say what is wrong at the place that ``error`` marks in ``text``, and what to do."""
    context, problem = error.context or "", error.problem or ""
    mark = error.problem_mark or error.context_mark
    if mark is not None:
        lines = text.splitlines()
        line = lines[mark.line] if mark.line < len(lines) else ""
        said = _yaml_words(context, problem, line, mark.column)
        if said is None and "quoted scalar" in context and "end of stream" in problem and error.context_mark:
            said = f"the quote that is opened in line {error.context_mark.line + 1} is never closed"
        if said is not None:
            return said
    return " ".join(part for part in (context, problem) if part) or "it cannot be read"


def _yaml_words(context: str, problem: str, line: str, column: int) -> str | None:
    char = line[column : column + 1]
    if "\t" in line[: len(line) - len(line.lstrip())] and ("token" in problem or "tab" in problem or "key" in problem):
        return _SPACES
    if _BARE_TEMPLATE.search(line[: column + 1]) and "quoted" not in context:
        return f"a value that begins with '{{{{' is read as a mapping: {_QUOTES}"
    if "cannot start any token" in problem:
        return _SPACES if char == "\t" else f"a value cannot begin with {char!r}: {_QUOTES}"
    if "scanning an alias" in context:
        return f"a value that begins with '*' is read as an alias: {_QUOTES}"
    if "undefined alias" in problem:
        return f"a value that begins with '*' is read as an alias, and there is no such anchor: {_QUOTES}"
    if "mapping values are not allowed" in problem:
        return f"a second ':' in one line, or a line that is indented too far: {_QUOTES}, or mend the indentation"
    if "unknown escape" in problem:
        return "a backslash begins an escape in double quotes: use single quotes, or write it twice"
    if "block" in context and "did not find expected" in problem:
        return "the indentation does not fit the lines above: what belongs together begins in the same column"
    return None


# --- templates


def no_field(value: Any, field: object) -> str:
    """Say that ``value`` has no such field, key or item, with the near miss among its keys; never its values."""
    if isinstance(value, Mapping):
        near = None
        if isinstance(field, str) and len(value) <= MAX_KNOWN:
            near = suggest(field, [key for key in value if isinstance(key, str)])
        empty = "" if len(value) else ": it is empty"
        return f"the mapping has no {show(field)}{hint(near)}{empty}"
    if isinstance(value, Sequence) and not isinstance(value, str) and isinstance(field, int):
        return f"the {type(value).__name__} has {len(value)} items, and no [{field}]"
    if value is None:
        return f"the value is null and has no {show(field)}"
    return f"the {type(value).__name__} has no {show(field)}"


def template_reason(said: str, filters: Iterable[str], tests: Iterable[str]) -> str:
    """Say what is wrong with a template. ``said``: what Jinja2 says, which looks for ``filters`` and ``tests``."""
    for kind, known in (("filter", filters), ("test", tests)):
        if found := re.match(rf"No {kind} named '(\w+)'", said):
            return f"there is no {kind} {found[1]!r}{hint(suggest(found[1], known))}"
    for pattern, words in _TEMPLATE_WORDS:
        if found := pattern.match(said):
            return words(found)
    return said.replace("'end of print statement'", "'}}'").replace("'end of statement block'", "'%}'")


def _tags(listed: str) -> str:
    return " or ".join(f"{{% {name} %}}" for name in re.findall(r"'(\w+)'", listed))


_SIGNS = {
    "&": ": write `and`",
    "?": ": write `a if b else c`",
    "!": ": write `not`",
    "$": ": names are written without it",
}
_OPEN = (
    r"Jinja was looking for the following tags: (?P<tags>[^.]*)\. "
    r"The innermost block that needs to be closed is '(?P<open>\w+)'"
)
_TEMPLATE_WORDS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (
        re.compile(rf"Unexpected end of template\. {_OPEN}"),
        lambda found: f"{{% {found['open']} %}} is never closed: {_tags(found['tags'])} is missing",
    ),
    (
        re.compile(rf"Encountered unknown tag '(\w+)'\. {_OPEN}"),
        lambda found: f"{{% {found[1]} %}} stands where {{% {found['open']} %}} needs {_tags(found['tags'])}",
    ),
    (re.compile(r"Encountered unknown tag '(\w+)'"), lambda found: f"there is no tag {{% {found[1]} %}}"),
    (
        re.compile(r"unexpected end of template, expected 'end of print statement'"),
        lambda _: "'{{' is never closed: '}}' is missing",
    ),
    (
        re.compile(r"unexpected end of template, expected 'end of statement block'"),
        lambda _: "'{%' is never closed: '%}' is missing",
    ),
    (
        re.compile(r"Missing end of comment tag"),
        lambda _: "'{#' begins a comment that is never closed: in CSS put a blank between, '{ #'",
    ),
    (re.compile(r"unexpected '\}'"), lambda _: "a single '}' where '}}' closes the template"),
    (
        re.compile(r"unexpected char (?:'(.)'|\"(.)\")"),
        lambda found: f"{found[1] or found[2]!r} has no meaning here{_SIGNS.get(found[1] or '', '')}",
    ),
)


# --- expressions, and what happens while values are computed

_STRING = re.compile(r"'[^']*'|\"[^\"]*\"")
_FOREIGN_SIGNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\{\{|\$\{"), "an expression is written without `{{ }}` and `${ }`"),
    (re.compile(r"[“”‘’„]"), "quotes are straight: ' or \""),
    (re.compile(r"&&"), "`&&` is written `and`"),
    (re.compile(r"\|\|"), "`||` is written `or`"),
    (re.compile(r"[=!]=="), "`===` is written `==`, and `!==` is written `!=`"),
    (re.compile(r"(?<![=!<>:])=(?!=)"), "`=` does not compare: write `==`"),
    (re.compile(r"!(?!=)"), "`!` is written `not`"),
    (re.compile(r"\?"), "`b ? a : c` is written `a if b else c`"),
    (re.compile(r"<>"), "`<>` is written `!=`"),
)


def expression_reason(source: str, said: str) -> str:
    """Say why a text is no expression: by the sign of another language that it holds, or as Python says it."""
    outside = _STRING.sub("''", source)
    if "unterminated string" in said:
        return "a quote is opened and never closed"
    return next((words for pattern, words in _FOREIGN_SIGNS if pattern.search(outside)), said)


_KINDS = {
    "str": "text",
    "int": "a number",
    "float": "a number",
    "bool": "a boolean",
    "dict": "a mapping",
    "list": "a list",
    "NoneType": "null",
    "datetime.datetime": "a moment",
    "datetime.date": "a date",
    "datetime.timedelta": "a duration",
}
_TO_CONVERT = "convert one of them first"
_READS = " (`date()`, `datetime()` and `duration()` read texts; `.date()` gives the date of a moment)"
_COMPUTED: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"can only concatenate (\w+) \(not \"(\w+)\"\) to \w+"), "'+' cannot add {1} and {2}: " + _TO_CONVERT),
    (
        re.compile(r"unsupported operand type\(s\) for (\S+?)(?: or \S+)?: '([\w.]+)' and '([\w.]+)'"),
        "'{1}' cannot take {2} and {3}: " + _TO_CONVERT,
    ),
    (
        re.compile(r"'(\S+)' not supported between instances of '([\w.]+)' and '([\w.]+)'"),
        "'{1}' cannot compare {2} and {3}: " + _TO_CONVERT,
    ),
    (re.compile(r"can't compare ([\w.]+) to ([\w.]+)"), "{1} and {2} cannot be compared: " + _TO_CONVERT),
    (re.compile(r"'(\w+)' object is not callable"), "{1} cannot be called: leave out the parentheses"),
    (re.compile(r"'(\w+)' object is not iterable"), "{1} has no items to go through"),
    (re.compile(r"type (\w+) doesn't define __round__ method"), "{1} cannot be rounded: convert it to a number first"),
)


def computed_reason(said: str) -> str:
    """Say why values do not fit what is done with them, where Python says it in terms of its own types."""
    for pattern, words in _COMPUTED:
        if found := pattern.fullmatch(said):
            reads = _READS if "datetime." in said else ""
            return words.format("", *(_KINDS.get(name, name) for name in found.groups())) + reads
    return said


# --- words of other systems

_FOREIGN_KEYS = {
    "tasks": "nodes",
    "steps": "nodes",
    "jobs": "nodes",
    "schedule": "triggers",
    "on": "triggers",
    "needs": "depends_on",
    "upstream": "depends_on",
    "if": "when",
    "condition": "when",
    "uses": "type",
    "operator": "type",
    "with": "config",
    "params": "config",
    "parameters": "config",
    "withItems": "for_each",
    "with_items": "for_each",
    "loop": "for_each",
    "matrix": "for_each",
    "strategy": "for_each",
    "repeat": "until",
    "poll": "until",
    "while": "until",
    "do_until": "until",
    "continue-on-error": "on_error",
    "States": "nodes",
    "sensors": "triggers",
    "dependencies": "depends_on",
    "dependsOn": "depends_on",
    "trigger_rule": "run_if",
    "withParam": "for_each",
    "retries": "retry",
    "retryStrategy": "retry",
    "Retry": "retry",
    "execution_timeout": "timeout",
    "timeoutInSeconds": "timeout",
    "timeout-minutes": "timeout",
    "TimeoutSeconds": "timeout",
    "max-parallel": "max_parallel",
    "MaxConcurrency": "max_parallel",
    "parallelism": "max_parallel",
    "runs-on": "queue",
    "taskQueue": "queue",
    "allowFailure": "on_error",
    "Catch": "on_error",
    "continueOnFail": "on_error",
    "onExit": "finally",
    "env": "vars",
    "variables": "vars",
}


def foreign_key(key: str, known: Iterable[str]) -> str | None:
    """Find the key of ``known`` that another workflow system calls ``key``."""
    ours = _FOREIGN_KEYS.get(key)
    return ours if ours in set(known) else None
