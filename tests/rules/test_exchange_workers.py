"""One request and several workers: whom it goes to, where it is sent again, how long it waits; every interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.ends import Address
from gateway.upstreams.terms import Terms
from tests.rules.playbook import EOF, LOST, Talk, route

Talks = Callable[..., Talk]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
THREE = tuple(Address(path=f"/{name}") for name in "abc")
INTERFACES = ["http", "fastcgi", "scgi"]


def member(peer: Any) -> str:
    return str(peer.end.member.name)


def several(talk: Talks, interface: str = "http", **options: Any) -> Talk:
    return talk(route(interface, addresses=THREE, **options))


@pytest.mark.parametrize("interface", INTERFACES)
def test_each_is_asked_once_before_it_is_given_up(talk: Talks, interface: str) -> None:
    one = several(talk, interface, keepalive=0)
    one.connects = False
    one.client.post("/", b"content")
    asked = []
    while one.opens:
        asked.append(str(one.opens[0].address))
        one.refuse()
    assert set(asked[:3]) == {"unix:/a", "unix:/b", "unix:/c"}
    answer = one.client.answer()
    assert (answer.status, answer.fields["retry-after"]) == (503, "5")


def test_the_last_of_many_gets_it(talk: Talks) -> None:
    """Four machines are gone, the fifth is not: nothing was sent, so nothing is lost."""
    one = talk(route("http", addresses=tuple(Address(path=f"/{n}") for n in range(5))))
    one.connects = False
    one.client.post("/", b"content")
    for _ in range(4):
        one.refuse()
    one.accept()
    one.worker >> OK
    assert one.client.answer().content == b"hello"


@pytest.mark.parametrize("sign", [EOF, LOST])
def test_what_broke_off_is_sent_to_another(talk: Talks, sign: Any) -> None:
    one = several(talk)
    one.client.get()
    first = one.worker
    name = member(first)
    first >> sign
    assert member(one.worker) != name
    one.worker >> OK
    assert one.client.answer().content == b"hello"
    assert [m.name for m in one.pool.members if m.strikes] == [name]


def test_late_connections_are_not_waited_for_twice(talk: Talks) -> None:
    one = several(talk, connect_s=1.0)
    one.connects = False
    one.client.get()
    asked = set()
    for _ in range(3):
        (order,) = one.opens
        asked.add(str(order.address))
        one.wait(1.25)
    assert len(asked) == 3
    assert one.client.answer().status == 504


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_of_a_dead_connection_that_took_nothing_everything_is_sent_again(talk: Talks, method: str) -> None:
    one = talk(route("http"))
    one.client.post("/", b"one", method="PUT")
    one.worker >> OK
    one.client.answer()
    one.worker.take()
    one.worker.room = 0
    one.client.post("/", b"two", method=method)
    one.worker >> LOST
    assert one.worker.take().endswith(b"\r\n\r\ntwo")
    one.worker >> OK
    assert one.client.answer().content == b"hello"
    assert "nothing was processed" in one.log.text
    assert one.pool.members[0].strikes == 0


def test_of_one_that_took_some_no_post_is(talk: Talks) -> None:
    one = talk(route("http"))
    one.client.get()
    one.worker >> OK
    one.client.answer()
    one.worker.take()
    one.worker.room = 10
    one.client.post("/", b"two")
    one.worker >> LOST
    assert one.client.answer().status == 502


def test_a_bad_response_puts_one_out(talk: Talks) -> None:
    one = several(talk)
    one.client.get()
    bad = member(one.worker)
    one.worker >> b"SSH-2.0\r\n\r\n"
    assert one.client.answer().status == 502
    for _ in range(6):
        one.connect().get()
        assert member(one.worker) != bad


def test_slow_ones_are_waited_for_all_the_same(talk: Talks) -> None:
    """A response that is late says nothing of the next one."""
    one = several(talk, response_s=1.0)
    one.client.get()
    one.wait(1.25)
    assert one.client.answer().status == 504
    assert not any(m.strikes for m in one.pool.members)


# ---------------------------------------------------------------------- the same worker for the same client


@pytest.mark.parametrize(
    ("what", "same", "other"),
    [
        ("field:X-User", ["X-User: ann"], [f"X-User: {n}" for n in range(20)]),
        ("cookie:sid", ["Cookie: a=b; sid=ann"], [f"Cookie: sid={n}; sid=ann" for n in range(20)]),
    ],
)
def test_a_field_or_a_cookie_decides(talk: Talks, what: str, same: list[str], other: list[str]) -> None:
    one = several(talk, terms=Terms(balance="hash", hash=what))
    for _ in range(5):
        one.connect().get("/", *same)
    assert len({member(peer) for peer in one.workers}) == 1
    for line in other:
        one.connect().get("/", line)
    assert len({member(peer) for peer in one.workers}) == 3


@pytest.mark.parametrize("what", ["client", "field:X-User", "cookie:sid"])
def test_the_client_decides_where_there_is_nothing_else(talk: Talks, what: str) -> None:
    one = several(talk, terms=Terms(balance="hash", hash=what))
    for _ in range(5):
        one.connect().get("/", "Cookie: other=1")
    assert len({member(peer) for peer in one.workers}) == 1


# ---------------------------------------------------------------------- the line


@pytest.mark.parametrize("interface", INTERFACES)
def test_who_waits_for_too_long_is_503(talk: Talks, interface: str) -> None:
    one = talk(route(interface, terms=Terms(limit=1.0), queue_s=2.0, keepalive=0))
    one.client.get()
    other = one.connect()
    other.get()
    one.wait(1.5)
    assert not other.got
    one.wait(1.0)
    answer = other.answer()
    assert (answer.status, answer.fields["retry-after"]) == (503, "5")
    assert "queue-timeout" in one.log.text


def test_waiting_counts_for_itself(talk: Talks) -> None:
    """Who was in the line for long has as long for its response as everybody."""
    one = talk(route("http", terms=Terms(limit=1.0), queue_s=10.0, response_s=3.0))
    one.client.get()
    other = one.connect()
    other.get()
    one.wait(2.5)
    one.worker >> OK
    one.wait(2.5)
    assert not other.got
    one.worker >> OK
    assert other.answer().content == b"hello"


def test_content_that_comes_while_it_waits_does_not_lengthen_that(talk: Talks) -> None:
    one = talk(route("http", terms=Terms(limit=1.0), queue_s=2.0, request_buffering=False))
    one.client.get()
    other = one.connect()
    other >> b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello"
    one.wait(1.5)
    other >> b"hello"
    one.wait(1.0)
    assert other.answer().status == 503


def test_a_full_line_is_503_at_once(talk: Talks) -> None:
    one = talk(route("http", terms=Terms(limit=1.0, queue=1)))
    for _ in range(2):
        one.connect().get()
    one.client.get()
    answer = one.client.answer()
    assert (answer.status, answer.fields["retry-after"]) == (503, "5")


def test_a_limit_holds_where_requests_share_connections(talk: Talks) -> None:
    one = talk(route("fastcgi", multiplex=True, terms=Terms(limit=2.0)))
    for _ in range(5):
        one.connect().get()
    assert one.pool.members[0].open == 2
    assert len(one.pool.waiting) == 3
