"""The environment's URLs."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from pyflow_site.environment import Environment, database


def test_redis_databases_count_from_the_one_that_is_named():
    assert Environment(redis_url="redis://h:1").redis_database(0) == "redis://h:1/0"
    assert Environment(redis_url="redis://h:1/4").redis_database(2) == "redis://h:1/6"


def test_a_redis_database_that_is_no_number_is_refused():
    with pytest.raises(ImproperlyConfigured, match="REDIS_URL"):
        Environment(redis_url="redis://h:1/broker").redis_database(0)


def test_silent_links_to_postgresql_are_given_up_with_the_lease():
    options = database(Environment(DATABASE_URL="postgresql://h/d", lease_seconds=9.5))["OPTIONS"]
    assert options["tcp_user_timeout"] == 10_000
    assert options["keepalives_idle"] + options["keepalives_interval"] * options["keepalives_count"] <= 10
    assert options["options"] == "-c idle_in_transaction_session_timeout=10s"


def test_the_url_decides_how_soon_a_link_is_given_up():
    url = "postgresql://h/d?options=&keepalives_idle=60&tcp_user_timeout=0"
    options = database(Environment(DATABASE_URL=url))["OPTIONS"]
    assert (options["options"], options["keepalives_idle"], options["tcp_user_timeout"]) == ("", "60", "0")
