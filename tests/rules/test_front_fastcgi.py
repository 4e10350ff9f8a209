"""The FastCGI front as conversations with a web server, octet by octet (SEMANTICS 32, 40, 43 to 45, 67 to 69, 91, 95)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.config import Limits, Timeouts
from gateway.ends import FileSlice
from gateway.errors import GatewayError
from gateway.fronts.fastcgi import FastcgiFront
from protocols.fastcgi_events import UnknownType, Values
from protocols.fastcgi_records import (
    BEGIN_REQUEST,
    DATA,
    END_REQUEST,
    GET_VALUES,
    PARAMS,
    STDOUT,
    ProtocolStatus,
    RecordReader,
    Role,
    encode_pair,
    record,
)
from protocols.message import Peer, Response
from tests.rules.hosted import Hosted, abort, request, stdin
from tests.rules.playbook import CLOSED, EOF, LINGER, LOST

GET = {b"REQUEST_METHOD": b"GET", b"REQUEST_URI": b"/a?b"}
POST = {b"REQUEST_METHOD": b"POST", b"REQUEST_URI": b"/"}
NO_LENGTH = GET | {b"CONTENT_LENGTH": b""}
VALUES = {b"FCGI_MAX_CONNS": b"10", b"FCGI_MAX_REQS": b"40", b"FCGI_MPXS_CONNS": b"1"}
Make = Callable[..., Hosted]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Hosted] = []

    def hosted(max_requests: int = 1, values: Any = VALUES, allowed: Any = (), **options: Any) -> Hosted:
        made.append(
            Hosted(
                lambda site: FastcgiFront(site, max_requests=max_requests, values=values, allowed=allowed), **options
            )
        )
        return made[-1]

    yield hosted
    for one in made:
        one.all_leave()
        assert "defect" not in one.log.text


@pytest.fixture
def one(make: Make) -> Hosted:
    """One request at a time, as the blocking shapes have it."""
    return make()


@pytest.fixture
def many(make: Make) -> Hosted:
    """Many at a time, as the event shape has it."""
    return make(1024)


def end(request_id: int = 1, app_status: int = 0, protocol_status: int = 0) -> bytes:
    return record(END_REQUEST, request_id, app_status.to_bytes(4, "big") + bytes((protocol_status, 0, 0, 0)))


def stdout(octets: bytes = b"", request_id: int = 1) -> bytes:
    return record(STDOUT, request_id, octets)


def whole(octets: bytes, request_id: int = 1) -> bytes:
    """A response as it leaves."""
    return stdout(octets, request_id) + stdout(request_id=request_id) + end(request_id)


OK = b"Status: 200 OK\r\n"

# ---------------------------------------------------------------------- one request


def test_a_request_and_its_response_octet_by_octet(one: Hosted) -> None:
    one.client >> (
        b"\x01\x01\x00\x01\x00\x08\x00\x00\x00\x01\x01\x00\x00\x00\x00\x00"  # BEGIN_REQUEST, KEEP_CONN
        b"\x01\x04\x00\x01\x00\x28\x00\x00\x0e\x03REQUEST_METHODGET\x0b\x08REQUEST_URI/abcdefg"
        b"\x01\x04\x00\x01\x00\x00\x00\x00"
        b"\x01\x05\x00\x01\x00\x00\x00\x00"
    )
    exchange = one.call.exchange
    assert (exchange.request.method, exchange.request.target, exchange.request.length) == (b"GET", b"/abcdefg", 0)
    one.call.respond(b"hello", (b"Content-Type", b"text/plain"))
    one.client << (
        b"\x01\x06\x00\x01\x00\x44\x04\x00"
        b"Status: 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello\x00\x00\x00\x00"
        b"\x01\x06\x00\x01\x00\x00\x00\x00"
        b"\x01\x03\x00\x01\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    )
    one.client << None
    assert one.statuses == [200]


@pytest.mark.parametrize("cut", [1, 3, 8, 17, 64])
def test_a_request_cut_anywhere_is_the_same(one: Hosted, cut: int) -> None:
    octets = request(1, POST | {b"CONTENT_LENGTH": b"5"}) + stdin(1, b"he") + stdin(1, b"llo") + stdin(1)
    for start in range(0, len(octets), cut):
        one.client.say(octets[start : start + cut])
    assert (one.call.got, one.call.complete) == (b"hello", True)
    one.call.respond(b"")
    one.client << whole(OK + b"Content-Length: 0\r\n\r\n")


def test_a_small_response_leaves_in_one_piece_and_one_record(one: Hosted) -> None:
    """Whatever the driver does with several pieces."""
    one.client >> request(1, GET) + stdin(1)
    end = one.client.end
    assert end is not None
    exchange = one.call.exchange
    exchange.call = None
    exchange.respond(Response(200, [(b"X", b"y")]))
    exchange.response_content(b"a" * 10)
    exchange.response_content(b"b" * 10)
    exchange.response_end()
    assert end.out == [whole(OK + b"X: y\r\n\r\n" + b"a" * 10 + b"b" * 10)]
    one.settle()


def test_what_has_left_already_is_not_sent_again(one: Hosted) -> None:
    one.client >> request(1, GET) + stdin(1)
    one.call.head()
    one.client << stdout(OK + b"\r\n")
    one.call.say(b"a")
    one.client << stdout(b"a")
    one.call.say(b"b").end()
    one.client << stdout(b"b") + stdout() + end()


def test_a_long_response_is_cut_into_records_that_need_no_padding(one: Hosted) -> None:
    one.client >> request(1, GET) + stdin(1)
    octets = os.urandom(200_000)
    one.call.head().say(octets).end()
    records = RecordReader().receive(one.client.take())
    assert [len(content) % 8 for _, _, content in records[1:-3]] == [0, 0, 0]
    assert b"".join(content for kind, _, content in records if kind == STDOUT) == OK + b"\r\n" + octets


def test_a_request_without_a_length_and_without_content_begins_as_soon_as_stdin_ends(one: Hosted) -> None:
    for variables in (GET, NO_LENGTH):
        one.client >> request(1, variables)
        count = len(one.app.calls)
        one.client >> stdin(1)
        assert len(one.app.calls) == count + 1
        assert one.call.exchange.request.length == 0
        one.call.respond(b"")
        one.client.take()


def test_content_without_a_length_goes_on_until_stdin_ends(one: Hosted) -> None:
    """As nginx sends it with fastcgi_request_buffering off, where its client has sent it chunked."""
    one.client >> request(1, POST | {b"CONTENT_LENGTH": b""}) + stdin(1, b"hel")
    assert one.call.exchange.request.length is None
    assert (one.call.got, one.call.complete) == (b"hel", False)
    one.client >> stdin(1, b"lo") + stdin(1)
    assert (one.call.got, one.call.complete) == (b"hello", True)


def test_45_content_beyond_its_length_is_dropped(one: Hosted) -> None:
    one.client >> request(1, POST | {b"CONTENT_LENGTH": b"3"}) + stdin(1, b"hello")
    assert (one.call.got, one.call.complete) == (b"hel", True)
    one.client >> stdin(1, b"more") + stdin(1)
    assert one.call.got == b"hel"
    one.call.respond(b"")
    one.client << whole(OK + b"Content-Length: 0\r\n\r\n")


def test_content_of_length_0_is_none(one: Hosted) -> None:
    one.client >> request(1, POST | {b"CONTENT_LENGTH": b"0"})
    assert one.call.complete
    one.client >> stdin(1, b"hello") + stdin(1)
    one.call.respond(b"")
    one.client << whole(OK + b"Content-Length: 0\r\n\r\n")


def test_content_shorter_than_its_length_is_400(one: Hosted) -> None:
    one.client >> request(1, POST | {b"CONTENT_LENGTH": b"6"}) + stdin(1, b"hello") + stdin(1)
    octets = one.client.answer()
    assert octets.startswith(b"Status: 400 Bad Request\r\n")
    assert one.statuses == [400]
    assert "1 octets before CONTENT_LENGTH" in one.log.text
    assert one.call.left


def test_content_shorter_than_its_length_after_the_head_cuts_the_response(one: Hosted) -> None:
    one.client >> request(1, POST | {b"CONTENT_LENGTH": b"6"}) + stdin(1, b"hello")
    one.call.head()
    one.client << stdout(OK + b"\r\n")
    one.client >> stdin(1)
    one.client << abort(1) << CLOSED


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "there is no REQUEST_METHOD"),
        (GET | {b"CONTENT_LENGTH": b"x"}, "CONTENT_LENGTH is b'x'"),
        ({b"REQUEST_METHOD": b"G T"}, "REQUEST_METHOD is b'G T'"),
    ],
)
def test_meta_variables_that_are_no_request_are_400(one: Hosted, variables: dict[bytes, bytes], words: str) -> None:
    one.client >> request(1, variables) + stdin(1)
    assert one.client.answer().startswith(b"Status: 400 Bad Request\r\n")
    assert words in one.log.text
    assert not one.app.calls
    one.client >> request(1, GET) + stdin(1)  # the connection is in step
    one.call.respond(b"")


def test_the_variables_reach_the_application_as_they_came(one: Hosted) -> None:
    told = GET | {b"HTTP_X_Y": b"\xff z", b"odd name": b"", b"REMOTE_ADDR": b"192.0.2.9", b"HTTPS": b"on"}
    one.client >> request(1, told) + stdin(1)
    assert one.call.variables == told | {b"FCGI_ROLE": b"RESPONDER"}
    assert one.call.exchange.peer == Peer(b"192.0.2.9", b"", b"", b"443", https=True)


def test_a_field_that_is_told_twice_is_joined(one: Hosted) -> None:
    params = b"".join(
        encode_pair(*pair) for pair in [*GET.items(), (b"HTTP_X", b"1"), (b"HTTP_X", b"2")]
    )  # as nginx before 1.23 does it
    one.client >> record(BEGIN_REQUEST, 1, bytes((0, 1, 1, 0, 0, 0, 0, 0)))
    one.client >> record(PARAMS, 1, params) + record(PARAMS, 1, b"") + stdin(1)
    assert one.call.variables[b"HTTP_X"] == b"1, 2"


def test_head_has_the_length_and_no_content(one: Hosted) -> None:
    one.client >> request(1, {b"REQUEST_METHOD": b"HEAD"}) + stdin(1)
    one.call.respond(b"hello")
    one.client << whole(OK + b"Content-Length: 5\r\n\r\n")


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_204_and_304_have_no_content(one: Hosted, status: bytes) -> None:
    one.client >> request(1, GET) + stdin(1)
    one.call.respond(b"hello", status=int(status[:3]))
    one.client << whole(b"Status: " + status + b"\r\n\r\n")


def test_interim_responses_are_dropped(one: Hosted) -> None:
    one.client >> request(1, GET) + stdin(1)
    one.call.head(status=103)
    one.client << None
    one.call.respond(b"")
    one.client << whole(OK + b"Content-Length: 0\r\n\r\n")


def test_a_tunnel_is_impossible(one: Hosted) -> None:
    one.client >> request(1, GET | {b"HTTP_UPGRADE": b"websocket", b"HTTP_CONNECTION": b"upgrade"}) + stdin(1)
    assert one.call.exchange.request.upgrade == b""  # so that no interface believes that it could
    with pytest.raises(GatewayError, match="WebSocket") as caught:
        one.call.exchange.client.tunnel(Response(101, ()))
    assert caught.value.status == 501


def test_an_early_answer_ends_the_request_and_the_rest_of_its_content_is_dropped(one: Hosted) -> None:
    one.client >> request(1, POST | {b"CONTENT_LENGTH": b"100"}) + stdin(1, b"hello")
    one.call.respond(b"no", status=403)
    one.client << whole(b"Status: 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    one.client >> stdin(1, b"x" * 95) + stdin(1) + request(2, GET) + stdin(2)
    assert one.call.exchange.request.target == b"/a?b"
    one.call.respond(b"")
    one.client << whole(OK + b"Content-Length: 0\r\n\r\n", 2)


def test_content_above_the_limit_is_413(make: Make) -> None:
    talk = make(content_limit=10)
    talk.client >> request(1, POST | {b"CONTENT_LENGTH": b"11"}) + stdin(1, b"x" * 11) + stdin(1)
    assert talk.client.answer().startswith(b"Status: 413 ")
    talk.client >> request(2, POST) + stdin(2, b"x" * 11) + stdin(2)
    assert talk.client.answer().startswith(b"Status: 413 ")
    talk.client << None


# ---------------------------------------------------------------------- the connection


def test_without_keep_conn_it_is_closed_after_the_response(one: Hosted) -> None:
    one.client >> request(1, GET, keep=False) + stdin(1)
    one.call.respond(b"")
    one.client << whole(OK + b"Content-Length: 0\r\n\r\n") << CLOSED


def test_without_keep_conn_and_with_content_unread_it_lingers(one: Hosted) -> None:
    """A reset would take the response away."""
    one.client >> request(1, POST | {b"CONTENT_LENGTH": b"9"}, keep=False) + stdin(1, b"x")
    one.call.respond(b"")
    one.client << whole(OK + b"Content-Length: 0\r\n\r\n") << LINGER


def test_with_keep_conn_it_serves_the_next_one_and_is_idle_for_ever(one: Hosted) -> None:
    for number in range(1, 4):
        one.client >> request(number, GET) + stdin(number)
        one.call.respond(b"%d" % number)
        one.client << whole(OK + b"Content-Length: 1\r\n\r\n%d" % number, number)
        one.wait(1000)
    one.client << None
    one.client >> EOF
    one.client << CLOSED


def test_45_get_values_is_answered_with_what_the_caller_says(one: Hosted) -> None:
    one.client.codec.get_values()
    one.client._send()
    assert one.client.codec.receive(one.client.take()) == [Values(VALUES)]
    asked = b"".join(encode_pair(name, b"") for name in (b"FCGI_MAX_REQS", b"FCGI_UNKNOWN"))
    one.client >> record(GET_VALUES, 0, asked)
    assert one.client.codec.receive(one.client.take()) == [Values({b"FCGI_MAX_REQS": b"40"})]


def test_get_values_is_answered_while_a_request_is_under_way(one: Hosted) -> None:
    one.client >> request(1, GET) + stdin(1)
    one.client.codec.get_values()
    one.client._send()
    assert one.client.codec.receive(one.client.take()) == [Values(VALUES)]


@pytest.mark.parametrize("piece", [b"z", b""])
def test_an_answer_to_the_web_server_never_comes_into_a_response(one: Hosted, piece: bytes) -> None:
    one.app.answers = lambda call: call.say(piece).end() if piece else call.end()
    one.client >> request(1, POST)
    one.client >> stdin(1, b"x")
    one.call.head().say(b"y")
    one.client << stdout(OK + b"\r\n") + stdout(b"y")
    one.client.codec.get_values()
    one.client >> b"".join(one.client.codec.outgoing()) + stdin(1)
    octets = one.client.take()
    rest = (stdout(piece) if piece else b"") + stdout() + end()
    assert octets.endswith(rest)
    assert one.client.codec.receive(octets.removesuffix(rest)) == [Values(VALUES)]


def test_43_unknown_management_records_are_answered(one: Hosted) -> None:
    one.client >> record(77, 0, b"future")
    assert one.client.codec.receive(one.client.take()) == [UnknownType(77)]


@pytest.mark.parametrize(
    "octets",
    [b"\x02\x01\x00\x01\x00\x00\x00\x00", b"GET / HTTP/1.1\r\n", record(STDOUT, 1, b""), record(PARAMS, 0, b"x")],
)
def test_43_who_does_not_speak_fastcgi_is_closed_and_told_of(one: Hosted, octets: bytes) -> None:
    one.client >> octets
    one.client << CLOSED
    assert "bad-request: client on a unix socket:" in one.log.text
    assert "FastCGI" in one.log.text


def test_a_broken_record_ends_what_is_under_way(one: Hosted) -> None:
    one.client >> request(1, POST) + stdin(1, b"x")
    one.client >> record(DATA, 1, b"x")
    one.client << CLOSED
    assert (one.call.left, one.call.client_left) == (True, True)
    assert one.statuses == [499]


def test_too_long_meta_variables_close_the_connection(one: Hosted) -> None:
    one.client >> request(1, GET, complete=False)
    for _ in range(20):
        if one.client.wire is not None:
            one.client.say(record(PARAMS, 1, b"x" * 65_528))
    one.client << CLOSED
    assert "longer than" in one.log.text


def test_octets_behind_the_end_are_nobodys(one: Hosted) -> None:
    one.client >> request(1, GET, keep=False) + stdin(1)
    one.call.respond(b"")
    assert one.client.wire is None


# ---------------------------------------------------------------------- several at the same time (36)


def test_one_at_a_time_rejects_the_second(one: Hosted) -> None:
    one.client >> request(1, GET) + stdin(1) + request(2, GET) + stdin(2)
    assert len(one.app.calls) == 1
    one.client << end(2, 0, ProtocolStatus.CANT_MPX_CONN)
    one.call.respond(b"")
    one.client << whole(OK + b"Content-Length: 0\r\n\r\n")


def test_a_rejected_request_without_keep_conn_ends_the_connection(one: Hosted) -> None:
    one.client >> request(1, GET, role=3, keep=False) + stdin(1)
    one.client << end(1, 0, ProtocolStatus.UNKNOWN_ROLE) << LINGER


def test_44_a_filter_is_told_that_there_is_none(one: Hosted) -> None:
    one.client >> request(1, GET, role=3) + stdin(1) + record(DATA, 1, b"file") + record(DATA, 1, b"")
    one.client << end(1, 0, ProtocolStatus.UNKNOWN_ROLE)
    one.client >> request(1, GET) + stdin(1)
    one.call.respond(b"")


def test_many_are_answered_in_any_order(many: Hosted) -> None:
    for number in range(1, 5):
        many.client >> request(number, GET | {b"REQUEST_URI": b"/%d" % number}) + stdin(number)
    for number in (3, 1, 4, 2):
        call = many.app.calls[number - 1]
        assert call.exchange.request.target == b"/%d" % number
        call.respond(b"%d" % number)
        many.client << whole(OK + b"Content-Length: 1\r\n\r\n%d" % number, number)


def test_many_that_are_answered_at_once_leave_in_one_turn(many: Hosted) -> None:
    many.app.answers = lambda call: call.respond(call.exchange.request.target)
    many.client >> b"".join(request(n, GET | {b"REQUEST_URI": b"/%d" % n}) + stdin(n) for n in range(1, 4))
    many.client << b"".join(whole(OK + b"Content-Length: 2\r\n\r\n/%d" % n, n) for n in range(1, 4))


def test_records_of_two_responses_take_turns(many: Hosted) -> None:
    many.client >> request(1, GET) + stdin(1) + request(2, GET) + stdin(2)
    first, second = many.app.calls
    first.head()
    second.head()
    first.say(b"a")
    second.say(b"b")
    many.client << stdout(OK + b"\r\n", 1) + stdout(OK + b"\r\n", 2) + stdout(b"a", 1) + stdout(b"b", 2)


def test_heads_of_two_responses_never_share_a_record(many: Hosted) -> None:
    many.client >> request(1, GET) + stdin(1) + request(2, GET) + stdin(2)
    first, second = (call.exchange for call in many.app.calls)
    first.respond(Response(200, ()))
    second.respond(Response(200, ()))
    first.response_content(b"a")
    second.response_content(b"b")
    many.settle()
    many.client << stdout(OK + b"\r\n", 1) + stdout(OK + b"\r\n", 2) + stdout(b"a", 1) + stdout(b"b", 2)


def test_without_keep_conn_it_stays_until_the_others_are_done(many: Hosted) -> None:
    many.client >> request(1, GET) + stdin(1) + request(2, GET, keep=False) + stdin(2)
    many.app.calls[1].respond(b"")
    many.client << whole(OK + b"Content-Length: 0\r\n\r\n", 2) << None
    many.app.calls[0].respond(b"")
    many.client << whole(OK + b"Content-Length: 0\r\n\r\n", 1) << CLOSED


# ---------------------------------------------------------------------- aborts, breaks, the client's leaving


def test_39_an_abort_reaches_the_application_and_ends_the_request(one: Hosted) -> None:
    one.client >> request(1, GET) + stdin(1)
    one.client >> abort(1)
    assert (one.call.left, one.call.client_left) == (True, True)
    one.client << stdout() + end()
    assert one.statuses == [499]
    one.client >> request(1, GET) + stdin(1)  # the id is free, the connection in step
    one.call.respond(b"new")
    one.client << whole(OK + b"Content-Length: 3\r\n\r\nnew")


def test_an_abort_in_the_middle_of_content_and_of_the_response(one: Hosted) -> None:
    one.client >> request(1, POST | {b"CONTENT_LENGTH": b"10"}) + stdin(1, b"hello")
    one.call.head().say(b"some")
    one.client << stdout(OK + b"\r\n") + stdout(b"some")
    one.client >> abort(1) + stdin(1, b"world") + stdin(1)
    one.client << stdout() + end()
    assert one.statuses == [200]
    assert one.call.got == b"hello"


def test_an_abort_before_content_or_meta_variables(one: Hosted) -> None:
    one.client >> request(1, GET, complete=False) + abort(1)
    one.client << stdout() + end()
    one.client >> request(1, GET) + abort(1)
    one.client << stdout() + end()
    assert not one.app.calls
    assert one.statuses == []


def test_an_abort_of_nobody_is_ignored(one: Hosted) -> None:
    one.client >> abort(7)
    one.client << None


def test_an_abort_without_keep_conn_closes(one: Hosted) -> None:
    one.client >> request(1, GET, keep=False) + stdin(1) + abort(1)
    one.client << stdout() + end() << CLOSED


def test_an_abort_leaves_the_others_alone(many: Hosted) -> None:
    many.client >> request(1, GET) + stdin(1) + request(2, GET) + stdin(2) + abort(1)
    assert [call.client_left for call in many.app.calls] == [True, False]
    many.client << stdout() + end()
    many.call.respond(b"")
    many.client << whole(OK + b"Content-Length: 0\r\n\r\n", 2)


@pytest.mark.parametrize("sign", [EOF, LOST])
def test_when_the_web_server_leaves_all_its_requests_are_over(many: Hosted, sign: Any) -> None:
    many.client >> request(1, GET) + stdin(1) + request(2, POST) + stdin(2, b"x") + request(3, GET) + stdin(3)
    many.app.calls[2].respond(b"")
    many.client >> sign
    assert [call.client_left for call in many.app.calls] == [True, True, False]
    assert many.statuses == [200, 499, 499]
    assert not many.site.fronts


@pytest.mark.parametrize("keep", [True, False])
def test_67_a_response_that_breaks_off_ends_without_end_request_and_with_a_reset(make: Make, keep: bool) -> None:
    talk = make(remote="192.0.2.1")
    talk.client >> request(1, GET, keep=keep) + stdin(1)
    talk.call.head()
    talk.client << stdout(OK + b"\r\n")
    talk.call.fail()
    talk.client << LOST
    assert "500 app" in talk.log.text


@pytest.mark.parametrize("keep", [True, False])
def test_67_on_a_unix_socket_which_has_no_resets_it_ends_with_what_no_web_server_takes(one: Hosted, keep: bool) -> None:
    one.client >> request(1, GET, keep=keep) + stdin(1)
    one.call.head()
    one.client << stdout(OK + b"\r\n")
    one.call.fail()
    one.client << abort(1) << CLOSED


def test_67_one_that_breaks_off_beside_others_ends_with_a_status_and_they_go_on(many: Hosted) -> None:
    many.client >> request(1, GET) + stdin(1) + request(2, GET) + stdin(2)
    many.app.calls[0].head()
    many.app.calls[0].fail()
    many.client << stdout(OK + b"\r\n") + stdout() + end(1, 1)
    many.app.calls[1].respond(b"")
    many.client << whole(OK + b"Content-Length: 0\r\n\r\n", 2)


def test_67_a_response_that_was_whole_in_the_same_turn_gets_out(many: Hosted) -> None:
    many.client >> request(1, GET) + stdin(1) + request(2, GET) + stdin(2)
    first, second = (call.exchange for call in many.app.calls)
    second.respond(Response(200, ()))
    many.settle()
    many.client << stdout(OK + b"\r\n", 2)
    first.call = None
    first.respond(Response(200, ()))
    first.response_end()
    second.failed(GatewayError(500, "app", "it has failed"))
    many.settle()
    many.client << whole(OK + b"\r\n", 1) << abort(2) << CLOSED


def test_67_one_that_was_whole_and_is_still_on_its_way_gets_out(many: Hosted) -> None:
    many.client.room = 10
    many.client >> request(1, GET) + stdin(1) + request(2, POST)
    many.app.calls[0].respond(b"x" * 100)
    many.client >> stdin(2, b"x")
    many.call.head()
    many.call.fail()
    many.client.takes_all()
    answer, rest = whole(OK + b"Content-Length: 100\r\n\r\n" + b"x" * 100), stdout(OK + b"\r\n", 2)
    many.client << answer << rest << abort(2) << CLOSED


def test_a_failure_before_the_head_is_a_page(one: Hosted) -> None:
    one.client >> request(1, GET) + stdin(1)
    one.call.fail(503)
    octets = one.client.answer()
    assert octets.startswith(b"Status: 503 Service Unavailable\r\n")
    assert b"X-Exchange-Id: " + one.call.exchange.id in octets


# ---------------------------------------------------------------------- roles


def test_95_an_authorizer_gets_no_content_whatever_is_told(one: Hosted) -> None:
    one.client >> request(1, POST | {b"CONTENT_LENGTH": b"5"}, role=2)
    assert one.call.complete
    assert one.call.variables == POST | {b"FCGI_ROLE": b"AUTHORIZER"}
    assert one.call.exchange.request.length == 0
    one.client >> stdin(1, b"hello") + stdin(1)
    one.call.respond(b"", (b"Variable-AUTH_METHOD", b"database lookup"))
    one.client << whole(OK + b"Variable-AUTH_METHOD: database lookup\r\nContent-Length: 0\r\n\r\n")
    assert one.call.got == b""


def test_what_the_web_server_says_of_the_role_is_not_believed(one: Hosted) -> None:
    one.client >> request(1, GET | {b"FCGI_ROLE": b"AUTHORIZER"}) + stdin(1)
    assert one.call.variables[b"FCGI_ROLE"] == b"RESPONDER"


# ---------------------------------------------------------------------- who may connect


@pytest.mark.parametrize("remote", ["192.0.2.1", "::1", "::ffff:192.0.2.1", ""])
def test_45_addresses_of_web_servers(make: Make, remote: str) -> None:
    talk = make(allowed=("192.0.2.1", "0:0::1"), remote=remote)
    talk.client >> request(1, GET) + stdin(1)
    talk.call.respond(b"")
    assert talk.client.take()


@pytest.mark.parametrize("remote", ["192.0.2.2", "::2", "::ffff:192.0.2.2"])
def test_45_others_are_closed_at_once(make: Make, remote: str) -> None:
    talk = make(allowed=("192.0.2.1", "rubbish"), remote=remote)
    talk.client << LOST
    assert f"web-server: client {remote}: it is none of the web servers that may connect" in talk.log.text
    assert not talk.site.fronts


def test_above_the_limit_of_connections_the_request_is_told_why(make: Make) -> None:
    talk = make(limits=Limits(connections=1))
    other = talk.connect()
    other >> request(1, GET) + stdin(1)
    octets = other.take()
    assert octets[8:].startswith(b"Status: 503 Service Unavailable\r\n")
    assert b"Retry-After: 1\r\n" in octets
    other << LINGER  # it was answered before its STDIN was looked at
    talk.client >> request(1, GET) + stdin(1)
    talk.call.respond(b"")
    talk.client.take()


def test_above_the_limit_of_connections_none_waits_for_ever(make: Make) -> None:
    talk = make(limits=Limits(connections=1), timeouts=Timeouts(header_s=5))
    other = talk.connect()
    talk.wait(6)
    other << CLOSED
    talk.client << None


def test_far_above_the_limit_they_are_closed_at_once(make: Make) -> None:
    talk = make(limits=Limits(connections=1))
    others = [talk.connect() for _ in range(300)]
    others[-1] << LOST
    assert len(talk.site.fronts) < 260


# ---------------------------------------------------------------------- back-pressure (68)


def test_a_request_that_wants_no_content_stops_the_connection_if_it_is_alone(one: Hosted) -> None:
    one.app.full = True
    one.client >> request(1, POST | {b"CONTENT_LENGTH": b"10"})
    one.client >> stdin(1, b"hello")
    one.client >> stdin(1, b"world")
    assert one.client.on_the_way
    one.call.takes()
    assert (one.call.got, one.call.complete) == (b"helloworld", True)
    one.client >> abort(1)  # and now it is read for aborts
    assert one.call.client_left


def test_an_application_that_is_full_with_the_last_octet_still_hears_of_an_abort(one: Hosted) -> None:
    one.client >> request(1, POST | {b"CONTENT_LENGTH": b"5"})
    one.call.fills = True
    one.client >> stdin(1, b"hello")
    assert one.call.complete
    one.client >> stdin(1) + abort(1)
    assert one.call.client_left


def test_with_others_on_the_connection_its_content_is_kept(many: Hosted) -> None:
    many.client >> request(1, POST | {b"CONTENT_LENGTH": b"10"}) + request(2, GET) + stdin(2)
    first = many.app.calls[0]
    first.fills = True
    many.client >> stdin(1, b"h")
    many.client >> stdin(1, b"ello") + request(3, GET) + stdin(3)
    assert not many.client.on_the_way
    assert (len(many.app.calls), first.got, first.full) == (3, b"h", True)
    for call in many.app.calls[1:]:
        call.respond(b"")
    many.client.take()
    many.client >> stdin(1, b"world") + stdin(1)  # now it is alone
    assert many.client.on_the_way
    first.fills = False
    first.takes()
    assert (first.got, first.complete) == (b"helloworld", True)
    assert not many.client.on_the_way


def test_a_web_server_that_does_not_read_holds_back_all_its_requests(many: Hosted) -> None:
    many.client >> request(1, GET) + stdin(1) + request(2, GET) + stdin(2)
    many.client.room = 10
    many.app.calls[0].head()
    assert [call.wanted for call in many.app.calls] == [False, False]
    many.client.takes_all()
    assert [call.wanted for call in many.app.calls] == [True, True]


def test_a_request_that_comes_while_it_does_not_read_is_held_back_from_the_start(many: Hosted) -> None:
    many.client >> request(1, POST) + stdin(1, b"x")
    many.client.room = 10
    many.call.head()
    many.client >> request(2, GET) + stdin(2)
    assert len(many.app.calls) == 2  # since content of the first is awaited, it is read
    assert not many.call.wanted
    many.client.takes_all()
    assert many.call.wanted


def test_nothing_is_read_for_a_web_server_that_does_not_read(one: Hosted) -> None:
    one.client.room = 10
    one.client >> request(1, GET) + stdin(1)
    one.call.respond(b"x" * 100)
    one.client >> request(2, GET) + stdin(2)
    assert one.client.on_the_way
    one.client.takes_all()
    assert len(one.app.calls) == 2


def test_a_web_server_that_never_reads_is_given_up(make: Make) -> None:
    talk = make(2, timeouts=Timeouts(write_s=10))
    talk.client >> request(1, GET) + stdin(1)
    talk.client.room = 10
    talk.call.head()
    talk.wait(11)
    assert talk.call.left
    assert "write-timeout" in talk.log.text
    assert talk.client.take()
    talk.client << LOST


# ---------------------------------------------------------------------- files


def file_of(content: bytes, closed: list[bool]) -> FileSlice:
    file = tempfile.TemporaryFile()  # noqa: SIM115
    file.write(content)
    file.flush()

    def close() -> None:
        file.close()
        closed.append(True)

    return FileSlice(file.fileno(), 1, len(content) - 1, close)


def test_a_file_goes_out_in_records_as_the_web_server_takes_it(many: Hosted) -> None:
    closed: list[bool] = []
    content = os.urandom(500_001)
    many.client >> request(1, GET) + stdin(1) + request(2, GET) + stdin(2)
    many.client.room = 1000
    first, second = many.app.calls
    first.head(length=500_000).say(file_of(content, closed))
    first.end()
    assert not closed
    wire = many.client.wire
    assert wire is not None
    assert len(wire.pending) < 200_000
    many.client.takes(200_000)
    second.respond(b"between")
    assert not closed
    many.client.takes_all()
    assert closed == [True]
    answers = many.client.answers()
    assert answers[1] == (OK + b"Content-Length: 500000\r\n\r\n" + content[1:], (0, 0))
    assert answers[2][0].endswith(b"between")


def test_octets_after_a_file_stay_after_it(one: Hosted) -> None:
    closed: list[bool] = []
    one.client >> request(1, GET) + stdin(1)
    one.client.room = 10
    one.call.head().say(file_of(b"?" + b"f" * 300_000, closed)).say(b"tail").end()
    one.client.takes_all()
    octets, _ = one.client.answers()[1]
    assert octets == OK + b"\r\n" + b"f" * 300_000 + b"tail"


def test_a_file_that_nobody_may_see_is_closed(one: Hosted) -> None:
    closed: list[bool] = []
    one.client >> request(1, {b"REQUEST_METHOD": b"HEAD"}) + stdin(1)
    one.call.head().say(file_of(b"?file", closed)).end()
    one.client << whole(OK + b"\r\n")
    assert closed == [True]


@pytest.mark.parametrize("how", ["abort", "lost", "short"])
def test_a_file_is_closed_whatever_happens(one: Hosted, how: str) -> None:
    closed: list[bool] = []
    one.client >> request(1, GET) + stdin(1)
    one.client.room = 10
    piece = file_of(b"?" + b"f" * 300_000, closed)
    if how == "short":
        piece.length += 1
    one.call.head().say(piece).end()
    assert not closed
    match how:
        case "abort":
            one.client.takes(150_000)
            assert not one.client.on_the_way
            one.client >> abort(1)
            one.client.takes_all()
            assert one.client.take().endswith(stdout() + end())
        case "lost":
            one.client >> LOST
        case _:
            one.client.takes_all()
            assert one.client.take().endswith(abort(1))
            one.client << CLOSED
            assert "a file can't be sent" in one.log.text
    assert closed == [True]


# ---------------------------------------------------------------------- time


def test_deadlines_of_many_requests_are_those_of_their_exchanges(make: Make) -> None:
    talk = make(8, response_s=10.0, read_s=5.0)
    talk.client >> request(1, GET) + stdin(1)
    talk.wait(4)
    talk.client >> request(2, GET) + stdin(2)
    talk.wait(5)
    assert talk.statuses == []
    talk.wait(2)
    assert talk.statuses == [504]
    assert talk.client.answer().startswith(b"Status: 504 ")
    talk.app.calls[1].head().exchange.wait_for_more()
    talk.wait(4)
    assert talk.statuses == [504]
    talk.wait(2)
    assert talk.statuses == [504, 200]
    talk.client << stdout(OK + b"\r\n", 2) << abort(2) << CLOSED


def test_a_response_in_time_needs_no_deadline(make: Make) -> None:
    talk = make(response_s=10.0)
    talk.client >> request(1, GET) + stdin(1)
    talk.call.respond(b"")
    talk.client << whole(OK + b"Content-Length: 0\r\n\r\n")
    talk.wait(100)
    talk.client << None


def test_content_that_does_not_come_is_408_where_a_bound_is_set(make: Make) -> None:
    talk = make(timeouts=Timeouts(read_s=10))
    talk.client >> request(1, POST | {b"CONTENT_LENGTH": b"5"}) + stdin(1, b"x")
    talk.wait(9)
    talk.client >> stdin(1, b"x")
    talk.wait(9)
    assert talk.statuses == []
    talk.wait(2)
    assert talk.client.answer().startswith(b"Status: 408 ")
    talk.client >> stdin(1) + request(2, GET)  # and nothing tells whether it has content
    talk.wait(11)
    assert talk.client.answer().startswith(b"Status: 408 ")


def test_an_application_that_takes_its_time_with_content_is_given_it(make: Make) -> None:
    talk = make(timeouts=Timeouts(read_s=10))
    talk.app.full = True
    talk.client >> request(1, POST | {b"CONTENT_LENGTH": b"5"}) + stdin(1, b"x")
    talk.wait(20)
    talk.call.takes()
    talk.wait(5)
    talk.client >> stdin(1, b"1234") + stdin(1)
    talk.call.respond(b"")
    assert talk.client.answer().startswith(OK)


# ---------------------------------------------------------------------- the end of a server, and many engines (69, 101)


def test_69_a_drain_closes_what_is_idle_and_waits_for_the_rest(many: Hosted) -> None:
    idle, busy = many.client, many.connect()
    busy >> request(1, GET) + stdin(1)
    half = many.connect()
    half >> request(1, GET, complete=False)
    many.wait(1.25)
    fresh = many.connect()
    many.site.drain()
    many.settle()
    idle << CLOSED
    fresh << None
    busy << None
    busy >> request(2, GET) + stdin(2)
    busy << end(2, 0, ProtocolStatus.OVERLOADED)  # not processed: the web server sends it elsewhere
    many.call.respond(b"")
    busy << whole(OK + b"Content-Length: 0\r\n\r\n") << CLOSED
    half >> record(PARAMS, 1, b"") + stdin(1)
    many.call.respond(b"")
    half << whole(OK + b"Content-Length: 0\r\n\r\n") << CLOSED


def test_a_gateway_whose_next_request_is_on_the_way_is_told_to_send_it_elsewhere(one: Hosted) -> None:
    """To close the connection right after a response would lose a POST that was sent in that moment."""
    ours = {b"SERVER_SOFTWARE": b"gateway-suite/1"}
    one.client >> request(1, GET | ours) + stdin(1)
    one.site.drain()
    one.call.respond(b"")
    one.client << whole(OK + b"Content-Length: 0\r\n\r\n")
    one.client >> request(1, POST | ours) + stdin(1)
    one.client << end(1, 0, ProtocolStatus.OVERLOADED)
    assert len(one.app.calls) == 1
    one.wait(0.75)
    for front in list(one.site.fronts):
        front.make_room(one.turn.now)
    one.settle()
    one.client << CLOSED


def test_a_kept_connection_makes_room_and_a_fresh_one_has_a_second(one: Hosted) -> None:
    used, fresh = one.client, one.connect()
    used >> request(1, GET) + stdin(1)
    for front in list(one.site.fronts):
        front.make_room(one.turn.now)
    one.settle()
    used << None
    fresh << None
    one.call.respond(b"")
    used.take()
    one.wait(0.75)
    for front in list(one.site.fronts):
        front.make_room(one.turn.now)
    one.settle()
    used << CLOSED
    fresh << None
    one.wait(1.25)
    for front in list(one.site.fronts):
        front.make_room(one.turn.now)
    one.settle()
    fresh << CLOSED


def test_part_of_a_record_is_no_idle_connection(one: Hosted) -> None:
    one.client >> request(1, GET)[:5]
    one.wait(5)
    for front in list(one.site.fronts):
        front.make_room(one.turn.now)
    one.settle()
    one.client << None


def test_an_engine_that_has_served_enough_closes_after_the_response(one: Hosted) -> None:
    one.site.requests = 2
    one.client >> request(1, GET) + stdin(1)
    one.call.respond(b"")
    one.client << whole(OK + b"Content-Length: 0\r\n\r\n")
    one.client >> request(2, GET) + stdin(2)
    one.call.respond(b"")
    one.client << whole(OK + b"Content-Length: 0\r\n\r\n", 2) << CLOSED


def test_91_padding_of_any_length(one: Hosted) -> None:
    padded = b"\x01\x05\x00\x01\x00\x02\xff\x00hi" + bytes(255)
    one.client >> request(1, POST | {b"CONTENT_LENGTH": b"2"}) + padded + stdin(1)
    assert (one.call.got, one.call.complete) == (b"hi", True)


def test_roles_and_values_by_the_codec_of_the_other_side(many: Hosted) -> None:
    """The same with our own gateway's codec, several at the same time."""
    ids = [
        many.client.ask(f"/{number}", b"x" * number, CONTENT_LENGTH=str(number) if number else "")
        for number in range(5)
    ]
    ids.append(many.client.ask("/auth", role=Role.AUTHORIZER))
    for call in reversed(many.app.calls):
        call.respond(call.exchange.request.target + call.got)
    answers = many.client.answers()
    assert [answers[request_id][0].partition(b"\r\n\r\n")[2] for request_id in ids] == [
        b"/0", b"/1x", b"/2xx", b"/3xxx", b"/4xxxx", b"/auth",
    ]  # fmt: skip
