"""What a client of a server is set up with."""

import pytest

from pyflow_client import Client


@pytest.mark.parametrize("key", ["pyf_live_abc\r", "pyf_live_abc\n", " pyf_live_abc", "pyf_live abc", "ключ"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(key: str):
    with pytest.raises(ValueError, match="the API key holds white space") as refused:
        Client("https://pyflow.example", key)
    assert "abc" not in str(refused.value)
