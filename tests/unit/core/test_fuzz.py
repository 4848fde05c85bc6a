"""Anything may come in; only our own errors come out."""

import contextlib
import math
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyflow.core.duration import MAX_SECONDS, parse_duration
from pyflow.core.errors import PyFlowError
from pyflow.core.ids import new_id, new_uuid
from pyflow.core.redaction import MASK, Redactor
from pyflow.documents.reading import read_json, read_yaml
from pyflow.expressions.evaluation import EvaluationError, UnsafeExpressionError, safe_eval
from pyflow.expressions.template import TemplateError, compile_value
from pyflow.validation.loader import parse_workflow

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
DATA = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def _pieces(text: str, *more: str) -> st.SearchStrategy[str]:
    return st.sampled_from([*text.split(), *more])


PIECES = _pieces(
    "a b.c x[0] ( ) [ ] { } , : . + - * ** // % / < > == != <= in not and or if else for lambda is 's' 1 2.5 -3 None "
    "True len(x) str( f'{x}' _ __a__ \\ # ; := @ ~ & | ^ << >> \u2024 0x 1e9",
    "\n",
)
WORDS = _pieces(
    "{{ }} {% %} {# #} if endif for endfor in x a.b set = | upper join ( ) 'q' [0] ~ + * macro m() endmacro loop.index "
    "range(3) is defined else raw endraw",
    "\n",
)
YAML_PIECES = _pieces(
    "a: b: - ? & * &a *a << [ ] { } , | > ' \" ! !!str !!int !!bool # --- ... 1 yes ~ 0x1F 1:30 .inf 2024-01-01 "
    "version: 2",
    "\n",
    "\t",
)


@given(
    st.lists(PIECES, max_size=25).map(" ".join) | st.text(max_size=60), st.dictionaries(st.sampled_from("abx"), DATA)
)
def test_an_expression_gives_a_value_or_one_of_our_errors(source: str, names: dict[str, Any]):
    with contextlib.suppress(UnsafeExpressionError, EvaluationError):
        safe_eval(source, names)


@given(
    st.lists(WORDS, max_size=25).map(" ".join) | st.text(max_size=60),
    st.dictionaries(st.sampled_from("abx"), DATA),
    st.booleans(),
)
def test_a_template_gives_a_value_or_one_of_our_errors(source: str, names: dict[str, Any], typed: bool):
    with contextlib.suppress(TemplateError):
        compile_value(source, typed=typed).render(names)


@given(st.lists(YAML_PIECES | st.just("\n"), max_size=30).map(" ".join) | st.text(max_size=60))
def test_yaml_is_a_document_or_a_document_error(text: str):
    for scalars in ("1.1", "1.2"):
        with contextlib.suppress(PyFlowError):
            read_yaml(text, scalars=scalars)


@given(
    st.lists(st.sampled_from(list('{}[]",:\\0e-.1 nulltrue\n\ud800')), max_size=30).map("".join) | st.text(max_size=60)
)
def test_json_is_a_document_or_a_document_error(text: str):
    with contextlib.suppress(PyFlowError):
        read_json(text)


NODE = st.dictionaries(
    st.sampled_from(["id", "type", "config", "depends_on", "when", "retry", "run_if", "timeout", "x"]), DATA
)
WORKFLOW = st.fixed_dictionaries(
    {},
    optional={
        "version": st.sampled_from([1, 2, "2", None]),
        "name": SCALARS,
        "trigger": DATA,
        "triggers": DATA,
        "inputs": DATA,
        "outputs": DATA,
        "settings": DATA,
        "nodes": st.lists(NODE | DATA, max_size=3) | DATA,
        "finally": st.lists(NODE, max_size=2),
    },
)


@given(WORKFLOW)
def test_a_workflow_is_a_model_or_one_of_our_errors(data: dict[str, Any]):
    import json

    with contextlib.suppress(PyFlowError):
        parse_workflow(json.dumps(data), "json")


@given(DATA | st.integers() | st.floats() | st.text(alphabet="0123456789.PTWDHMSmshd e-+"))
def test_a_duration_is_seconds_or_a_value_error(value: Any):
    with contextlib.suppress(ValueError):
        assert 0 <= parse_duration(value) <= MAX_SECONDS


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("5m", 300),
        ("2h", 7200),
        ("1d", 86400),
        ("1.5h", 5400),
        ("PT1H30M", 5400),
        ("P1DT1S", 86401),
        ("P2W", 1209600),
        ("90", 90),
        (90, 90),
        (0.25, 0.25),
    ],
)
def test_durations(text: Any, seconds: float):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "value", ["", "s", "1x", "P", "PT", "P1Y", "-1s", -1, math.inf, math.nan, 10**400, True, None, "9" * 39, "1h30m"]
)
def test_what_is_no_duration(value: Any):
    with pytest.raises(ValueError, match="duration"):
        parse_duration(value)


SECRETS = st.text(min_size=4, max_size=20)


@given(SECRETS, DATA)
def test_a_redactor_changes_nothing_else(secret: str, value: Any):
    redactor = Redactor()
    assert redactor.redact(value) is value
    redactor.add(secret)
    if secret not in repr(value):
        clean = redactor.redact(value)
        assert MASK in repr(clean) or clean == value


@given(SECRETS.filter(lambda s: s.isprintable()), st.text(max_size=10), st.text(max_size=10))
def test_a_secret_is_masked_in_any_dress(secret: str, before: str, after: str):
    import base64
    import json
    from urllib.parse import quote, quote_plus, urlencode

    redactor = Redactor()
    redactor.add(secret)
    text = f"{before}{secret}{after}"
    assert secret not in str(redactor.redact(text)).replace(MASK, "")
    for dressed in (
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
    ):
        assert dressed not in str(redactor.redact(f"<{dressed}>")).replace(MASK, "")
    whole = base64.b64encode(secret.encode("utf-8", "surrogatepass")).decode()
    assert whole not in redactor.redact(f"Basic {whole}")
    assert urlencode({"x": secret})[2:] not in redactor.redact(urlencode({"x": secret})).replace(MASK, "")


@pytest.mark.parametrize(
    "shape", [list, tuple, set, frozenset, lambda items: {"k": items}, lambda items: {items[0]: 1}]
)
def test_a_secret_is_masked_in_any_container(shape: Any):
    redactor = Redactor()
    redactor.add("sesame")
    assert "sesame" not in repr(redactor.redact(shape(["open sesame"])))


@pytest.mark.parametrize("offset", [0, 1, 2])
def test_a_secret_is_masked_inside_longer_base64(offset: int):
    import base64

    redactor = Redactor()
    redactor.add("correct horse")
    encoded = base64.b64encode(b"u" * offset + b"correct horse" + b":tail").decode()
    for piece in redactor.redact(encoded).split(MASK):
        for cut in range(4):
            whole = piece[cut : len(piece) - (len(piece) - cut) % 4]
            assert b"orse" not in base64.b64decode(whole)


def test_ids_are_uuids_of_version_7_in_the_order_they_were_made():
    ids = [new_uuid() for _ in range(10_000)]
    assert all(id.version == 7 and id.variant == uuid.RFC_4122 for id in ids)
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert [uuid.UUID(text) for text in sorted(new_id() for _ in range(100))]


def test_ids_of_many_threads_are_distinct():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: [new_uuid() for _ in range(1000)], range(8)))
    assert len({id for part in made for id in part}) == 8000
    assert all(part == sorted(part) for part in made)


# The safe subset: Python's own `eval` is the reference.

NUMBERS = st.integers(-50, 50) | st.floats(-50, 50).map(lambda x: round(x, 3))


def _binary(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operators = st.sampled_from(["+", "-", "*", "/", "//", "%", "==", "!=", "<", ">", "<=", ">=", "and", "or"])
    return st.one_of(
        st.tuples(inner, operators, inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        inner.map(lambda x: f"(not {x})"),
        inner.map(lambda x: f"(-({x}))"),
        st.tuples(inner, inner, inner).map(lambda t: f"({t[0]} if {t[1]} else {t[2]})"),
        st.lists(inner, min_size=1, max_size=3).map(lambda xs: f"max([{', '.join(xs)}])"),
        st.lists(inner, max_size=3).map(lambda xs: f"len([{', '.join(xs)}])"),
        inner.map(lambda x: f"[y * 2 for y in [{x}, 1] if y]"),
        inner.map(lambda x: f"f'{{{x}!r:>9}}'"),
        st.tuples(inner, inner).map(lambda t: f"{{'k': {t[0]}, 'm': {t[1]}}}['k']"),
        inner.map(lambda x: f"[{x}, 2, 3][1:]"),
        st.tuples(inner, inner, inner).map(lambda t: f"({t[0]} < {t[1]} <= {t[2]})"),
        st.tuples(inner, inner).map(lambda t: f"({t[0]} in [{t[1]}, 1, 'a'])"),
        inner.map(lambda x: f"isinstance({x}, (int, str))"),
        inner.map(lambda x: f"any(z == {x} for z in [a, b])"),
    )


EXPRESSIONS = st.recursive(
    st.sampled_from(["a", "b", "xs[0]", "'text'", "True", "None", "xs", "s.upper()", "d.get('k')", "d['k']"])
    | NUMBERS.map(repr),
    _binary,
    max_leaves=8,
)


@given(EXPRESSIONS, NUMBERS, NUMBERS)
def test_an_allowed_expression_means_what_python_means(source: str, a: float, b: float):
    names = {"a": a, "b": b, "xs": [1, 2, 3], "s": "abc", "d": {"k": 5}}
    expected, error = _outcome(lambda: eval(source, dict(names)))
    value, ours = _outcome(lambda: safe_eval(source, names))
    if error is None and ours is None:
        assert value == expected
        assert type(value) is type(expected)
    elif error is None:
        # A limit may come first, another meaning may not.
        assert isinstance(ours, UnsafeExpressionError)
        assert ours.code == "expression_limit"
    else:
        assert isinstance(ours, (EvaluationError, UnsafeExpressionError))
        assert isinstance(ours, (type(error), UnsafeExpressionError)) or isinstance(error, OverflowError)


def _outcome(work: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        return work(), None
    except Exception as error:
        return None, error
