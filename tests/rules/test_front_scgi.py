"""The SCGI front as conversations with a web server, octet by octet (SEMANTICS 46 to 48, 67 to 69)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.config import Limits, Timeouts
from gateway.errors import GatewayError
from gateway.fronts.scgi import ScgiFront
from protocols.message import Response
from protocols.scgi import encode_pair, encode_request
from tests.rules.hosted import Hosted
from tests.rules.playbook import CLOSED, EOF, LINGER, LOST
from tests.rules.test_front_fastcgi import file_of

Make = Callable[..., Hosted]
GET = {b"REQUEST_METHOD": b"GET", b"REQUEST_URI": b"/a?b"}
POST = {b"REQUEST_METHOD": b"POST", b"REQUEST_URI": b"/"}
OK = b"Status: 200 OK\r\n"


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Hosted] = []

    def hosted(allowed: Any = (), **options: Any) -> Hosted:
        made.append(Hosted(lambda site: ScgiFront(site, allowed=allowed), **options))
        return made[-1]

    yield hosted
    for one in made:
        one.all_leave()
        assert "defect" not in one.log.text


@pytest.fixture
def one(make: Make) -> Hosted:
    return make()


def request(variables: dict[bytes, bytes], length: int = 0) -> bytes:
    return encode_request(b"".join(encode_pair(*pair) for pair in variables.items()), length)


def test_46_47_a_request_and_its_response_octet_by_octet(one: Hosted) -> None:
    one.client >> (
        b"70:CONTENT_LENGTH\x0027\x00SCGI\x001\x00REQUEST_METHOD\x00POST\x00REQUEST_URI\x00/deepthought\x00,"
        b"What is the answer to life?"
    )
    exchange = one.call.exchange
    assert (exchange.request.method, exchange.request.target, exchange.request.length) == (b"POST", b"/deepthought", 27)
    assert (one.call.got, one.call.complete) == (b"What is the answer to life?", True)
    assert one.call.variables == {
        b"CONTENT_LENGTH": b"27", b"SCGI": b"1", b"REQUEST_METHOD": b"POST", b"REQUEST_URI": b"/deepthought",
    }  # fmt: skip
    one.call.respond(b"42", (b"Content-Type", b"text/plain"))
    one.client << b"Status: 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n42" << CLOSED
    assert one.statuses == [200]


@pytest.mark.parametrize("cut", [1, 7, 50])
def test_a_request_cut_anywhere_is_the_same(one: Hosted, cut: int) -> None:
    octets = request(POST, 5) + b"hello"
    for start in range(0, len(octets), cut):
        one.client.say(octets[start : start + cut])
    assert (one.call.got, one.call.complete) == (b"hello", True)
    one.call.respond(b"")
    one.client << OK + b"Content-Length: 0\r\n\r\n" << CLOSED


def test_octets_beyond_content_length_are_dropped(one: Hosted) -> None:
    one.client >> request(POST, 5) + b"hello and more"
    assert (one.call.got, one.call.complete) == (b"hello", True)


def test_a_response_in_pieces(one: Hosted) -> None:
    one.client >> request(GET)
    one.call.head((b"X", b"y"))
    one.client << OK + b"X: y\r\n\r\n"
    one.call.say(b"a")
    one.client << b"a" << None
    one.call.end()
    one.client << CLOSED


def test_head_has_no_content(one: Hosted) -> None:
    one.client >> request({b"REQUEST_METHOD": b"HEAD"})
    one.call.respond(b"hello")
    one.client << OK + b"Content-Length: 5\r\n\r\n" << CLOSED


def test_a_tunnel_is_impossible_and_interim_responses_are_dropped(one: Hosted) -> None:
    one.client >> request(GET)
    one.call.head(status=103)
    with pytest.raises(GatewayError):
        one.call.exchange.client.tunnel(Response(101, ()))
    one.call.respond(b"")
    one.client << OK + b"Content-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("octets", "status", "words"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400, "can't begin with b'GET / HTTP"),
        (b"70:CONTENT_LENGTH\x00x", 0, ""),
        (b"24:SCGI\x001\x00CONTENT_LENGTH\x000\x00,", 400, "not CONTENT_LENGTH"),
        (b"99999999:", 431, "longer than 65536"),
        (b"-1:", 400, "can't begin"),
        (request({}), 400, "there is no REQUEST_METHOD"),
    ],
)
def test_48_what_is_no_request_is_told_why_and_not_read_for_ever(
    make: Make, octets: bytes, status: int, words: str
) -> None:
    talk = make(timeouts=Timeouts(header_s=5))
    talk.client >> octets
    if not status:  # nothing is wrong so far
        talk.client << None
        talk.wait(6)
        status, words = 408, "not complete after 5 s"
    assert talk.client.take().startswith(b"Status: %d " % status)
    talk.client << LINGER
    assert words in talk.log.text
    assert talk.statuses == [status]


def test_who_sends_nothing_is_closed(make: Make) -> None:
    talk = make(timeouts=Timeouts(header_s=5))
    talk.wait(6)
    talk.client << CLOSED
    assert talk.statuses == []


def test_a_web_server_that_leaves(one: Hosted) -> None:
    early, waiting, sending = one.client, one.connect(), one.connect()
    early >> EOF
    early << CLOSED
    waiting >> request(GET)
    sending >> request(POST, 10) + b"hello"
    waiting >> EOF
    sending >> LOST
    assert [call.client_left for call in one.app.calls] == [True, True]
    assert one.statuses == [499, 499]


def test_67_a_response_that_breaks_off_ends_with_a_reset(one: Hosted) -> None:
    one.client >> request(GET)
    one.call.head()
    one.client << OK + b"\r\n"
    one.call.fail()
    one.client << LOST


def test_a_failure_before_the_head_is_a_page(one: Hosted) -> None:
    one.client >> request(GET)
    one.call.fail(503)
    assert one.client.take().startswith(b"Status: 503 Service Unavailable\r\n")
    one.client << CLOSED


def test_an_early_answer_lingers_so_that_it_can_be_read(one: Hosted) -> None:
    one.client >> request(POST, 10) + b"hello"
    one.call.respond(b"", status=403)
    one.client << b"Status: 403 Forbidden\r\nContent-Length: 0\r\n\r\n" << LINGER
    one.client >> b"world"


def test_back_pressure_both_ways(one: Hosted) -> None:
    one.app.full = True
    one.client >> request(POST, 10)
    one.client >> b"hello"
    assert one.client.on_the_way
    one.call.takes()
    one.client >> b"world"
    assert (one.call.got, one.call.complete) == (b"helloworld", True)
    one.client.room = 10
    one.call.head()
    assert not one.call.wanted
    one.client.takes_all()
    assert one.call.wanted


def test_a_web_server_that_never_reads_is_given_up(make: Make) -> None:
    talk = make(timeouts=Timeouts(write_s=10))
    other = talk.connect()
    for server in (talk.client, other):
        server.room = 10
        server >> request(GET)
    talk.app.calls[0].head()
    talk.app.calls[1].respond(b"")  # its connection only waits to be closed
    talk.wait(11)
    assert "write-timeout" in talk.log.text
    assert talk.app.calls[0].left
    for server in (talk.client, other):
        assert server.take()
        server << LOST


def test_a_file_goes_out_by_itself(one: Hosted) -> None:
    closed: list[bool] = []
    one.client >> request(GET)
    one.call.head().say(file_of(b"?" + b"f" * 10, closed)).say(b"!").end()
    one.client << OK + b"\r\nffffffffff!" << CLOSED
    assert closed == [True]


def test_deadlines_are_those_of_the_exchange(make: Make) -> None:
    talk = make(response_s=10.0, read_s=5.0)
    talk.client >> request(GET)
    talk.wait(9)
    assert talk.statuses == []
    talk.wait(2)
    assert talk.client.take().startswith(b"Status: 504 ")
    talk.client << CLOSED


def test_content_that_does_not_come_is_408_where_a_bound_is_set(make: Make) -> None:
    talk = make(timeouts=Timeouts(read_s=10))
    talk.client >> request(POST, 5)
    talk.wait(9)
    talk.client >> b"x"
    talk.wait(9)
    assert talk.statuses == []
    talk.wait(2)
    assert talk.client.take().startswith(b"Status: 408 ")


def test_above_the_limit_of_connections_the_request_is_told_why(make: Make) -> None:
    talk = make(limits=Limits(connections=1))
    other = talk.connect()
    other >> request(GET)
    assert other.take().startswith(b"Status: 503 Service Unavailable\r\n")
    assert not talk.app.calls
    others = [talk.connect() for _ in range(300)]
    others[-1] << LOST


def test_who_may_connect(make: Make) -> None:
    talk = make(allowed=("192.0.2.1",), remote="::ffff:192.0.2.1")
    stranger, neighbour = talk.connect("192.0.2.2"), talk.connect("")
    stranger << LOST
    assert "web-server: client 192.0.2.2:" in talk.log.text
    for server in (talk.client, neighbour):
        server >> request(GET)
        talk.call.respond(b"")
        server << OK + b"Content-Length: 0\r\n\r\n" << CLOSED


def test_69_a_drain_closes_where_nothing_has_come(one: Hosted) -> None:
    idle, busy, half = one.client, one.connect(), one.connect()
    busy >> request(GET)
    half >> request(GET)[:9]
    one.wait(1.25)
    fresh = one.connect()
    one.site.drain()
    one.settle()
    idle << CLOSED
    fresh << None
    one.call.respond(b"")
    busy << OK + b"Content-Length: 0\r\n\r\n" << CLOSED
    half >> request(GET)[9:]
    one.call.respond(b"")
    half << OK + b"Content-Length: 0\r\n\r\n" << CLOSED


def test_a_connection_without_a_request_makes_room_after_a_second(one: Hosted) -> None:
    for front in list(one.site.fronts):
        front.make_room(one.turn.now)
    one.settle()
    one.client << None
    one.wait(1.25)
    for front in list(one.site.fronts):
        front.make_room(one.turn.now)
    one.settle()
    one.client << CLOSED


@pytest.mark.parametrize(
    ("given", "taken"), [(b"18ead5-3", True), (b"a b", False), (b"", False), (b"x" * 129, False)], ids=repr
)
def test_the_exchange_has_the_id_that_the_web_server_gave(one: Hosted, given: bytes, taken: bool) -> None:
    one.client >> request({b"REQUEST_METHOD": b"GET", b"REQUEST_URI": b"/", b"EXCHANGE_ID": given})
    assert (one.call.exchange.id == given) is taken
    one.call.respond(b"")
