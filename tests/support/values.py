"""Strategies of hypothesis for values of any shape, for tests into which anything may come."""

from hypothesis import strategies as st

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
DATA = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def pieces(text: str, *more: str) -> st.SearchStrategy[str]:
    """One of the words of a text, or of those that a blank would not separate."""
    return st.sampled_from([*text.split(), *more])
