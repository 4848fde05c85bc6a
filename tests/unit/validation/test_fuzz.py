"""Any data may come in as a workflow; only our own errors come out."""

import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pyflow.core.errors import PyFlowError
from pyflow.validation.loader import parse_workflow
from tests.support.values import DATA, SCALARS

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
    with contextlib.suppress(PyFlowError):
        parse_workflow(json.dumps(data), "json")
