"""Ids are UUIDs of version 7 (RFC 9562), in the order in which they were made."""

import uuid
from concurrent.futures import ThreadPoolExecutor

from pyflow.core.ids import new_id, new_uuid


def test_ids_are_uuids_of_version_7_in_the_order_they_were_made():
    ids = [new_uuid() for _ in range(10_000)]
    assert all(id.version == 7 and id.variant == uuid.RFC_4122 for id in ids)
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert [uuid.UUID(text) for text in sorted(new_id() for _ in range(100))]


def test_ids_of_many_threads_are_distinct():
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: [new_uuid() for _ in range(1000)], range(8)))
    assert len({id for part in made for id in part}) == 8000
    assert all(part == sorted(part) for part in made)
