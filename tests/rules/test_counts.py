"""What is counted of a request, whatever becomes of it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import gateway
from gateway import counts
from gateway.counts import BUCKETS, CAUSES, FAILURES, IN_FLIGHT, OCTETS, QUEUED, RETRIES, Counts, failures, quantile
from gateway.ends import Address
from gateway.processes.explain import _STATUS
from gateway.publish import Publisher
from gateway.site import Alone
from tests.rules.playbook import EOF, Talk, route

GET = b"GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Heard(Alone):
    """What an engine tells."""

    def __init__(self) -> None:
        self.rows: dict[int, list[int]] = {}
        self.texts: list[bytes] = []

    def publish(self, route: int, values: Any) -> None:
        self.rows[route] = list(values)

    def tell(self, text: bytes) -> None:
        self.texts.append(text)


def of(talk: Talk, number: int = 0) -> list[int]:
    return talk.site.services[number].counts.values


def classes(values: list[int]) -> list[int]:
    return values[:6]


def test_the_layout_has_room_for_all() -> None:
    assert len(CAUSES) + 1 + FAILURES == counts.WIDTH
    assert BUCKETS + counts.LAST_BUCKET + 1 == FAILURES
    assert len(counts.BOUNDS_S) == counts.LAST_BUCKET


def test_every_cause_of_the_sources_is_known() -> None:
    """Else it would be counted as `other`."""
    found = set(_STATUS)
    for path in Path(gateway.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("GatewayError"):
                cause = node.args[1]
                if isinstance(cause, ast.Constant):
                    found.add(cause.value)
    assert found - set(CAUSES) == set()
    assert list(CAUSES) == sorted(CAUSES)


def test_a_request_that_is_answered(talk: Any) -> None:
    one = talk(route("http"))
    one.client >> GET
    assert of(one)[IN_FLIGHT] == 1
    one.wait(0.003)
    one.worker >> OK
    values = of(one)
    assert (classes(values), values[IN_FLIGHT], values[OCTETS]) == ([0, 0, 1, 0, 0, 0], 0, 2)
    assert failures(values) == {}
    assert sum(values[BUCKETS:FAILURES]) == 1


def test_a_request_that_nobody_takes(talk: Any) -> None:
    one = talk(route("http"))
    one.connects = False
    one.client >> GET
    for _ in range(3):
        if one.opens:
            one.refuse()
    values = of(one)
    assert (classes(values), values[IN_FLIGHT]) == ([0, 0, 0, 0, 0, 1], 0)
    assert failures(values) == {"connect-refused": 1}
    assert values[RETRIES] == 2


def test_requests_of_no_route(talk: Any) -> None:
    one = talk(route("http", path="/only"))
    one.client >> GET
    assert classes(of(one)) == [0] * 6
    assert classes(one.site.counts.values) == [0, 0, 0, 0, 1, 0]
    assert failures(one.site.counts.values) == {"no-route": 1}


def test_a_client_that_leaves(talk: Any) -> None:
    one = talk(route("http"))
    one.client >> GET
    one.client >> EOF
    assert (classes(of(one)), of(one)[IN_FLIGHT]) == ([0, 0, 0, 0, 1, 0], 0)


def test_what_changed_is_told_once(talk: Any) -> None:
    one = talk(route("http"), route("http", path="/other"))
    heard = one.site.neighbours = Heard()
    publisher = Publisher(one.site, 4096)
    one.client >> GET
    publisher.tick(one.turn.now)
    assert list(heard.rows) == [0]
    heard.rows.clear()
    publisher.tick(one.turn.now)
    assert heard.rows == {}
    assert len(heard.texts) == 1
    one.worker >> OK
    publisher.tick(one.turn.now)
    assert list(heard.rows) == [0]


def test_at_another_place_it_is_counted_from_nothing(talk: Any) -> None:
    one = talk(route("http"))
    heard = one.site.neighbours = Heard()
    publisher = Publisher(one.site, 4096)
    one.client >> GET
    one.worker >> OK
    publisher.leave(one.turn.now)
    assert classes(heard.rows[0]) == [0, 0, 1, 0, 0, 0]
    one.client >> GET
    publisher.tick(one.turn.now)
    assert (classes(heard.rows[0]), heard.rows[0][IN_FLIGHT]) == ([0] * 6, 1)
    one.worker >> OK
    publisher.tick(one.turn.now)
    assert classes(heard.rows[0]) == [0, 0, 1, 0, 0, 0]


def test_what_takes_long_is_told_and_its_query_is_not(talk: Any) -> None:
    one = talk(route("http"))
    heard = one.site.neighbours = Heard()
    publisher = Publisher(one.site, 4096)
    one.client >> GET
    publisher.tick(one.turn.now)
    assert b'"/a"' not in heard.texts[-1]
    publisher.tick(one.turn.now + 1)
    assert b'"GET","/a",0,' in heard.texts[-1]
    assert b"?b" not in heard.texts[-1]


def test_where_there_is_no_room_for_all_it_tells_of_what_is_not_as_it_should_be(talk: Any) -> None:
    addresses = tuple(Address("127.0.0.1", port) for port in range(1, 200))
    one = talk(route("http", addresses=addresses))
    heard = one.site.neighbours = Heard()
    publisher = Publisher(one.site, 1024)
    for member in one.pool.members[7:9]:
        one.pool.struck(member)
    publisher.tick(one.turn.now)
    assert [text.count(b"127.0.0.1") for text in heard.texts] == [2]
    for member in one.pool.members:
        one.pool.struck(member)
    publisher.tick(one.turn.now)
    assert heard.texts[-1] == b"[[],[]]"


def test_a_queue_is_told(talk: Any) -> None:
    one = talk(route("http"))
    one.pool.members[0].limit = 1
    one.client >> GET
    one.connect() >> GET
    heard = one.site.neighbours = Heard()
    Publisher(one.site, 4096).tick(one.turn.now)
    assert (heard.rows[0][QUEUED], heard.rows[0][IN_FLIGHT]) == (1, 2)


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0, 0), (0.0002, 0), (0.0003, 1), (0.0009, 2), (0.0011, 3), (60.0, 18), (66.0, 19), (1e6, 19)]
)
def test_buckets(seconds: float, bucket: int) -> None:
    one = Counts()
    one.over(200, 0, seconds)
    assert one.values[BUCKETS:FAILURES].index(1) == bucket
    if bucket < counts.LAST_BUCKET:
        assert seconds < counts.BOUNDS_S[bucket]


def test_quantiles() -> None:
    one = Counts()
    assert quantile(one.values[BUCKETS:FAILURES], 0.5) is None
    for _ in range(99):
        one.over(200, 0, 0.0015)
    one.over(200, 0, 3.0)
    middle, last = (quantile(one.values[BUCKETS:FAILURES], part) for part in (0.5, 0.999))
    assert middle is not None and 0.001 < middle < 0.002
    assert last is not None and 2.048 < last < 4.096


def test_a_status_of_a_script_of_its_own_making() -> None:
    one = Counts()
    one.over(999, 0, 0)
    one.over(0, 0, 0)
    one.failed("what is this")
    assert classes(one.values) == [1, 0, 0, 0, 0, 1]
    assert failures(one.values) == {"other": 1}


def test_a_tunnel_has_no_response_time() -> None:
    one = Counts()
    one.over(101, 5, 3600)
    assert classes(one.values) == [0, 1, 0, 0, 0, 0]
    assert not any(one.values[BUCKETS:FAILURES])
