"""Any expression or template may come in; only our own errors come out."""

import contextlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pyflow.expressions.evaluation import EvaluationError, UnsafeExpressionError, safe_eval
from pyflow.expressions.template import TemplateError, compile_value
from tests.support.values import DATA, pieces

PIECES = pieces(
    "a b.c x[0] ( ) [ ] { } , : . + - * ** // % / < > == != <= in not and or if else for lambda is 's' 1 2.5 -3 None "
    "True len(x) str( f'{x}' _ __a__ \\ # ; := @ ~ & | ^ << >> \u2024 0x 1e9",
    "\n",
)
WORDS = pieces(
    "{{ }} {% %} {# #} if endif for endfor in x a.b set = | upper join ( ) 'q' [0] ~ + * macro m() endmacro loop.index "
    "range(3) is defined else raw endraw",
    "\n",
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
