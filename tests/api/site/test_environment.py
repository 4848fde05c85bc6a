"""The environment's URLs."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from pyflow_site.environment import Environment


def test_redis_databases_count_from_the_one_that_is_named():
    assert Environment(redis_url="redis://h:1").redis_database(0) == "redis://h:1/0"
    assert Environment(redis_url="redis://h:1/4").redis_database(2) == "redis://h:1/6"


def test_a_redis_database_that_is_no_number_is_refused():
    with pytest.raises(ImproperlyConfigured, match="REDIS_URL"):
        Environment(redis_url="redis://h:1/broker").redis_database(0)
