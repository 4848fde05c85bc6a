"""Any text may come in as a document; only our own errors come out."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from pyflow.core.errors import PyFlowError
from pyflow.documents.reading import read_json, read_yaml
from tests.support.values import pieces

YAML_PIECES = pieces(
    "a: b: - ? & * &a *a << [ ] { } , | > ' \" ! !!str !!int !!bool # --- ... 1 yes ~ 0x1F 1:30 .inf 2024-01-01 "
    "version: 2",
    "\n",
    "\t",
)


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
