"""Event buses: what every one of them does, and what Redis adds to it."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import redis

from pyflow.core.bus import MAX_MESSAGE, MAX_TOPIC, CountingBus, Member, MemoryBus
from pyflow.core.ports import MISSED, EventBus, Notification, OnNotification, Subscription
from runs.notify.redis_bus import RedisBus
from tests.support import waiting
from tests.support.servers import launcher
from tests.support.servers.event_bus import QUICK, Notes

SERVED = "the subscription has taken effect"


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.fleet)])
def bus(request: pytest.FixtureRequest) -> Iterator[EventBus]:
    if request.param == "memory":
        yield MemoryBus()
        return
    with launcher.redis() as url:
        bus = RedisBus(f"{url}/29", QUICK)
        yield bus
        bus.close()


def subscribed(bus: EventBus, *topics: str, callback: OnNotification | None = None) -> tuple[Notes, Subscription]:
    """Subscribe, and wait until it has taken effect: nothing of what is published from now on is lost."""
    notes, arrived = Notes(), threading.Event()

    def note(notification: Notification) -> None:
        if notification.topic == "probe":
            arrived.set()
            return
        notes(notification)
        if callback is not None:
            callback(notification)

    subscription = bus.subscribe([*topics, "probe"], note)
    assert isinstance(subscription, Member)
    waiting.until(lambda: not subscription.unconfirmed, what=SERVED)
    arrived.clear()

    def published() -> bool:
        bus.publish("probe")
        return arrived.wait(0.01)

    waiting.until(published, what="notification")
    return notes, subscription


def test_a_subscriber_receives_its_topics_and_no_others(bus: EventBus):
    notes, _ = subscribed(bus, "queued:gpu", "news")
    bus.publish("queued:")
    bus.publish("queued:gpu")
    bus.publish("news", "7")
    waiting.until(lambda: Notification("news", "7") in notes, what="last notification")
    assert [it for it in notes.taken if it is not MISSED] == [Notification("queued:gpu"), Notification("news", "7")]


def test_each_subscriber_of_a_topic_is_called(bus: EventBus):
    (first, _), (second, _) = subscribed(bus, "news"), subscribed(bus, "news", "ended")
    bus.publish("news", "Ünïcode ✓")
    for notes in (first, second):
        waiting.until(lambda notes=notes: Notification("news", "Ünïcode ✓") in notes, what="notification")


def test_a_closed_subscription_is_not_called_and_the_others_are(bus: EventBus):
    (closed, subscription), (open_, _) = subscribed(bus, "news"), subscribed(bus, "news")
    subscription.close()
    subscription.close()
    bus.publish("news", "1")
    waiting.until(lambda: Notification("news", "1") in open_, what="notification")
    assert Notification("news", "1") not in closed


def test_a_subscriber_that_fails_harms_no_other(bus: EventBus, caplog: pytest.LogCaptureFixture):
    def fail(notification: Notification) -> None:
        raise RuntimeError("a defect of the subscriber")

    subscribed(bus, "news", callback=fail)
    notes, _ = subscribed(bus, "news")
    bus.publish("news", "1")
    waiting.until(lambda: Notification("news", "1") in notes, what="notification")
    assert "a defect of the subscriber" in caplog.text


def test_a_subscriber_may_publish_subscribe_and_close(bus: EventBus):
    inner = Notes()

    def go_on(notification: Notification) -> None:
        if notification == Notification("first"):
            later.append(bus.subscribe(["third"], inner))
            bus.publish("second")
            subscription.close()

    later: list[Subscription] = []
    _, subscription = subscribed(bus, "first", callback=go_on)
    second, _ = subscribed(bus, "second")
    bus.publish("first")
    waiting.until(lambda: Notification("second") in second, what="notification of the subscriber")

    def published() -> bool:
        bus.publish("third")
        return Notification("third") in inner

    waiting.until(published, what="subscription of the subscriber")
    bus.publish("first")
    subscribed(bus, "first")
    assert len(later) == 1, "it is closed"


def test_notifications_from_many_threads_all_arrive(bus: EventBus):
    notes, _ = subscribed(bus, "news")

    def publish(first: int) -> None:
        for i in range(first, first + 100):
            bus.publish("news", str(i))

    threads = [threading.Thread(target=publish, args=(100 * i,)) for i in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {str(i) for i in range(500)}
    waiting.until(lambda: {it.message for it in notes.taken} >= expected, what="all notifications")


@pytest.mark.parametrize("topic", ["", "x" * (MAX_TOPIC + 1), "a\nb", "a\0b"])
def test_a_topic_that_is_empty_too_long_or_not_printable_is_refused(bus: EventBus, topic: str):
    with pytest.raises(ValueError, match="A topic has 1 to 200 printable characters"):
        bus.publish(topic)
    with pytest.raises(ValueError, match="A topic has 1 to 200 printable characters"):
        bus.subscribe(["news", topic], Notes())


def test_a_message_that_is_too_long_is_refused_and_the_longest_arrives(bus: EventBus):
    with pytest.raises(ValueError, match="at most 16384 characters; this one has 16385"):
        bus.publish("news", "x" * (MAX_MESSAGE + 1))
    notes, _ = subscribed(bus, "news")
    bus.publish("news", "x" * MAX_MESSAGE)
    waiting.until(lambda: Notification("news", "x" * MAX_MESSAGE) in notes, what="notification")


def test_a_publication_is_reported_with_the_number_of_its_receivers(bus: CountingBus):
    counts: list[int] = []
    bus.publish_counted("news", "", counts.append)
    assert bus.flush(60)
    subscribed(bus, "news")
    bus.publish_counted("news", "", counts.append)
    assert bus.flush(60)
    assert counts == [0, 1]


def test_thousands_of_topics_are_subscribed_to_and_dropped_again(bus: EventBus):
    topics = [f"events:{i}" for i in range(3000)]
    many = [subscribed_soon(bus, topic) for topic in topics]
    counted(bus, topics[0], 1)
    counted(bus, topics[-1], 1)
    for _, subscription in many:
        subscription.close()
    counted(bus, topics[0], 0)
    counted(bus, topics[-1], 0)


def subscribed_soon(bus: EventBus, topic: str) -> tuple[Notes, Subscription]:
    notes = Notes()
    return notes, bus.subscribe([topic], notes)


def counted(bus: EventBus, topic: str, receivers: int) -> None:
    """Wait until a publication has so many receivers."""
    assert isinstance(bus, CountingBus)
    counts: list[int] = []

    def published() -> bool:
        bus.publish_counted(topic, "", counts.append)
        assert bus.flush(60)
        return counts[-1] == receivers

    waiting.until(published, what=f"{receivers} receivers of {topic}")


def test_a_forked_child_begins_without_subscriptions_and_can_subscribe(bus: EventBus):
    notes, _ = subscribed(bus, "news")

    def in_child() -> bool:
        bus.publish("news", "before")
        fresh, subscription = subscribed(bus, "news")
        bus.publish("news", "1")
        waiting.until(lambda: Notification("news", "1") in fresh, what="notification in the child")
        subscription.close()
        return Notification("news", "before") not in notes and bus.flush(60)

    assert forked(in_child) == 0
    bus.publish("news", "2")
    waiting.until(lambda: Notification("news", "2") in notes, what="notification in the parent")


def test_a_fork_while_threads_hold_its_locks_keeps_nothing_locked_in_the_child(bus: EventBus):
    subscribed(bus, "news")
    holders = [bus] if isinstance(bus, MemoryBus) else [bus._listener]
    for holder in holders:
        holder._lock.acquire()  # as another thread may have, at the moment of the fork
    try:
        assert forked(lambda: bus.publish("news") is None and bus.flush(60)) == 0
    finally:
        for holder in holders:
            holder._lock.release()


def forked(check: Callable[[], bool]) -> int:
    """Call ``check`` in a forked child; return 0 if it returns true there."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)  # ends a child that waits for ever
        try:
            os._exit(0 if check() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_the_bus_in_memory_can_be_made_to_miss():
    bus, notes = MemoryBus(), Notes()
    bus.subscribe(["news"], notes)
    bus.miss()
    assert notes.taken == [MISSED]


@pytest.fixture
def server() -> Iterator[launcher.Program]:
    with launcher.redis_server() as server:
        yield server


@pytest.fixture
def redis_bus(server: launcher.Program) -> Iterator[RedisBus]:
    bus = RedisBus(f"{server.url}/0", QUICK)
    yield bus
    bus.close()


def threads(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


@pytest.mark.fleet
def test_redis_restarted_each_subscriber_is_called_once_and_then_receives(
    redis_bus: RedisBus, server: launcher.Program
):
    many = [subscribed(redis_bus, "news", f"events:{i}") for i in range(3)]
    for notes, _ in many:
        notes.taken.clear()
    server.end()
    server.start()
    for notes, _ in many:
        waiting.until(lambda notes=notes: MISSED in notes, what="call after the restart")
    redis_bus.publish("news", "7")
    redis_bus.flush(60)

    def published() -> bool:  # the sender's connection was lost, too: one publication may be
        redis_bus.publish("news", "8")
        return all(Notification("news", "8") in notes for notes, _ in many)

    waiting.until(published, what="notification after the restart")
    assert [notes.taken.count(MISSED) for notes, _ in many] == [1, 1, 1]


@pytest.mark.fleet
def test_redis_away_publications_and_subscriptions_wait_for_nothing(
    redis_bus: RedisBus, server: launcher.Program, caplog: pytest.LogCaptureFixture
):
    server.end()
    notes, _ = subscribed_soon(redis_bus, "news")
    redis_bus.publish("news", "lost")
    assert redis_bus.flush(60), "it is given up"
    waiting.until(lambda: "notifications are missed" in caplog.text, what="warning of the listener")
    assert caplog.text.count("notifications are lost") == 1
    server.start()
    waiting.until(lambda: MISSED in notes, what="call after the start")
    assert "notifications are received" in caplog.text


@pytest.mark.fleet
def test_a_connection_that_says_nothing_any_more_is_replaced(redis_bus: RedisBus, server: launcher.Program):
    notes, _ = subscribed(redis_bus, "news")
    notes.taken.clear()
    server.send(signal.SIGSTOP)
    waiting.until(lambda: redis_bus._listener._sent == set(), what="loss of the connection")
    server.send(signal.SIGCONT)
    waiting.until(lambda: MISSED in notes, what="another connection")


@pytest.mark.fleet
def test_subscribers_look_for_themselves_now_and_then_with_redis_and_without(server: launcher.Program):
    bus = RedisBus(f"{server.url}/0", replace(QUICK, look=0.0))
    notes, _ = subscribed(bus, "news")
    for _ in range(2):
        notes.taken.clear()
        waiting.until(lambda: len(notes.taken) > 2, what="regular calls")
        server.end()
    bus.close()


@pytest.mark.fleet
def test_all_subscriptions_of_a_process_share_a_connection_that_ends_some_time_after_the_last(
    redis_bus: RedisBus, server: launcher.Program
):
    subscriptions = [subscribed(redis_bus, "news", f"events:{i}")[1] for i in range(5)]
    with redis.Redis.from_url(server.url) as client:
        assert len(client.client_list(_type="pubsub")) == 1
        assert client.pubsub_numsub("pyflow:0:news") == [(b"pyflow:0:news", 1)]
        for subscription in subscriptions:
            subscription.close()
        waiting.until(lambda: not client.client_list(_type="pubsub"), what="end of the connection")
    waiting.until(lambda: redis_bus._listener._thread is None, what="end of the thread")
    notes, _ = subscribed(redis_bus, "news")
    assert MISSED in notes, "another subscription starts another thread"


@pytest.mark.fleet
def test_a_topic_is_unsubscribed_from_and_subscribed_to_in_between(redis_bus: RedisBus):
    """Whatever the order of Redis' answers, a subscription takes effect, and is called once it has."""
    subscribed(redis_bus, "other")
    for i in range(200):
        _, subscription = subscribed_soon(redis_bus, "news")
        if i % 3 == 0:
            redis_bus.publish("other")
        subscription.close()
    notes, _ = subscribed_soon(redis_bus, "news")
    waiting.until(lambda: MISSED in notes, what=SERVED)
    redis_bus.publish("news", "1")
    waiting.until(lambda: Notification("news", "1") in notes, what="notification")


@pytest.mark.fleet
def test_a_subscription_of_topics_that_are_confirmed_already_is_called_as_well(redis_bus: RedisBus):
    subscribed(redis_bus, "news", "other")
    notes, _ = subscribed_soon(redis_bus, "news")
    waiting.until(lambda: MISSED in notes, what=SERVED)


@pytest.mark.fleet
def test_publications_that_come_together_are_one_and_go_out_together(server: launcher.Program):
    bus = RedisBus(f"{server.url}/0", replace(QUICK, gather=0.2))
    bus.publish("news", "first")
    assert bus.flush(60)
    with redis.Redis.from_url(server.url) as client:
        before = client.info("commandstats")["cmdstat_publish"]["calls"]
        for _ in range(1000):
            bus.publish("news", "again")
        assert bus.flush(60)
        assert client.info("commandstats")["cmdstat_publish"]["calls"] - before <= 2
    bus.close()


@pytest.mark.fleet
def test_databases_of_one_redis_do_not_receive_each_others_notifications(server: launcher.Program, redis_bus: RedisBus):
    notes, _ = subscribed(redis_bus, "news")
    other = RedisBus(f"{server.url}/1", QUICK)
    other.publish("news", "of another installation")
    assert other.flush(60)
    other.close()
    redis_bus.publish("news", "ours")
    waiting.until(lambda: Notification("news", "ours") in notes, what="notification")
    assert Notification("news", "of another installation") not in notes


@pytest.mark.fleet
def test_a_notification_that_counted_a_subscription_just_closed_is_handed_back(redis_bus: RedisBus):
    """The publisher takes it for received."""
    unheard = Notes()
    redis_bus.on_unheard(unheard)
    _, subscription = subscribed(redis_bus, "queued:gpu")
    loop = redis_bus._listener._loop
    assert loop is not None
    held, free = threading.Event(), threading.Event()
    loop.call_soon_threadsafe(lambda: (held.set(), free.wait(60)))
    assert held.wait(60)
    counts: list[int] = []
    redis_bus.publish_counted("queued:gpu", "", counts.append)
    assert redis_bus.flush(60)
    subscription.close()
    free.set()
    waiting.until(lambda: Notification("queued:gpu") in unheard, what="notification that nobody heard")
    assert counts == [1]
