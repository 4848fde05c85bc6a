"""Lists of entity tags, as RFC 9110 writes them."""

import pytest
from django.test import RequestFactory
from rest_framework.request import Request

from plumbing.rest.conditional import check_match, etag, is_known
from plumbing.rest.errors import PreconditionFailedError

TAG = etag("a", 1)


def request(**headers: str) -> Request:
    return Request(
        RequestFactory().get("/", headers={name.replace("_", "-"): value for name, value in headers.items()})
    )


@pytest.mark.parametrize("given", ["*", " * ", TAG, f'"other", {TAG}', f'"other",\t{TAG} , W/"weak"'])
def test_the_present_state_matches(given: str):
    check_match(request(if_match=given), TAG, required=True)
    assert is_known(request(if_none_match=given), TAG)


@pytest.mark.parametrize("given", ["", '"other"', TAG.strip('"'), f'{TAG}"', f'"other", *, {TAG[:-1]}', f"{TAG};", ","])
def test_what_is_no_tag_of_it_does_not_match(given: str):
    with pytest.raises(PreconditionFailedError):
        check_match(request(if_match=given), TAG, required=True)
    assert not is_known(request(if_none_match=given), TAG)


def test_a_weak_tag_is_good_for_reading_only():
    assert is_known(request(if_none_match=f"W/{TAG}"), TAG)
    with pytest.raises(PreconditionFailedError):
        check_match(request(if_match=f"W/{TAG}"), TAG, required=True)


def test_nothing_matches_what_is_not_there():
    with pytest.raises(PreconditionFailedError):
        check_match(request(if_match="*"), None, required=False)
