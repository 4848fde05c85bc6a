"""G7: 100,000 events pass while readers of both transports are disconnected 1,000 times, and Redis restarts."""

import os
import random
import signal

import pytest

from tenants.models import Tenant
from tests.support.factories.rows import make_api_key, make_tenant
from tests.support.servers import asgi, launcher
from tests.support.streams import Reader, assert_all_was_read, by_sse, by_websocket, over_redis, write

pytestmark = [pytest.mark.fleet, pytest.mark.chaos, pytest.mark.django_db(transaction=True)]
EVENTS, READERS, RESTARTS = 100_000, 4, 5
#: Events between two disconnects, at most: 1,000 disconnects in all, and some more.
MOST = EVENTS * READERS // 600
LIMITS = {"api_requests_per_minute": 1_000_000, "key_requests_per_minute": 1_000_000}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", asgi.SERVERS)
def test_disconnects_and_restarts_lose_and_repeat_nothing(name: str):
    chance = random.Random(os.environ.get("PYFLOW_TEST_CHAOS", ""))
    tenant = make_tenant("followed")
    Tenant.objects.filter(pk=tenant.pk).update(limits=LIMITS)
    credential = f"Bearer {make_api_key(tenant)[1]}"
    stops = {chance.randrange(EVENTS - 200) for _ in range(RESTARTS)}
    with asgi.serving(name) as server, launcher.redis_server() as redis, over_redis(redis.url):

        def restart(number: int) -> None:
            if number in stops:
                redis.end(signal.SIGKILL)
            if number - 100 in stops:
                redis.end()
                redis.start()

        ways = [by_sse(server, "/events", credential), by_websocket(server, "/events", credential)]
        readers = [Reader(ways[number % 2], EVENTS, chance.randrange(1 << 30), MOST) for number in range(READERS)]
        write(tenant, EVENTS, restart)
        assert_all_was_read(readers, EVENTS, seconds=600)
        assert sum(reader.connections for reader in readers) >= 1000
