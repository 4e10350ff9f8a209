"""The HTTP front as conversations: order, patience, framing, and who may stay connected (SEMANTICS 49 to 58, 100, 101)."""

from __future__ import annotations

import pytest

from gateway.config import Limits, Timeouts
from gateway.ends import WINDOW
from tests.rules.conftest import Talks
from tests.rules.playbook import CLOSED, EOF, LINGER, LOST, Talk, route
from tests.rules.words import Fastcgi, end, page, request, stdout

POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"


@pytest.fixture
def front(talk: Talks) -> Talk:
    return talk(route("fastcgi"))


def answer_all(one: Talk, text: bytes = b"") -> None:
    """The worker answers whatever it has been asked."""
    end = one.worker.end
    if end is not None and end.exchange is not None:  # type: ignore[attr-defined]
        one.worker.say(page(end.request_id, text))  # type: ignore[attr-defined]


# ---------------------------------------------------------------------- order (55)


def test_pipelined_requests_are_answered_in_order_one_at_a_time(front: Talk) -> None:
    front.client >> b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(3))
    worker = Fastcgi(front.worker)
    for number in range(3):
        worker << request(number + 1, f"GET /{number}") >> page(number + 1, b"%d" % number)
    assert [front.client.answer().content for _ in range(3)] == [b"0", b"1", b"2"]
    assert len(front.workers) == 1


def test_a_client_that_pipelines_without_end_is_held_back(front: Talk) -> None:
    front.client.get()
    for _ in range(20):
        front.client.say(b"GET /x HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 10_000 + b"\r\n\r\n")
    assert front.client.on_the_way  # some of it is left in the network
    assert front.client.end.reader.held <= WINDOW + 20_000  # type: ignore[union-attr]
    for _ in range(21):
        answer_all(front)
    assert [front.client.answer().status for _ in range(21)] == [200] * 21


def test_empty_lines_before_a_request_are_skipped(front: Talk) -> None:
    front.client >> b"\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"
    answer_all(front)
    assert front.client.answer().status == 200


def test_after_a_broken_request_nothing_more_is_read(front: Talk) -> None:
    front.client >> b"GET / HTTP/1.1\r\nBad\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = front.client.answer()
    assert (answer.status, answer.fields["connection"]) == (400, "close")
    front.client << LINGER  # so that the answer can be read
    assert not front.workers


def test_a_broken_request_behind_a_good_one_waits_for_its_turn(front: Talk) -> None:
    front.client >> b"GET / HTTP/1.1\r\nHost: x\r\n\r\nrubbish\r\n\r\n"
    answer_all(front, b"good")
    assert front.client.answer().content == b"good"
    assert front.client.answer().status == 400
    assert front.accesses.statuses == [200, 400]


# ---------------------------------------------------------------------- who may stay (57)


@pytest.mark.parametrize(
    ("version", "fields", "stays"),
    [("1.1", [], True), ("1.1", ["Connection: close"], False), ("1.0", [], False),
     ("1.0", ["Connection: keep-alive"], True), ("1.2", [], True)],
)  # fmt: skip
def test_keep_alive(front: Talk, version: str, fields: list[str], stays: bool) -> None:
    front.client.get("/", *fields, version=version)
    front.worker >> stdout(1, b"Status: 200\nContent-Length: 2\n\nok") + stdout(1) + end(1)
    assert front.client.answer().content == b"ok"
    front.client << (None if stays else CLOSED)


def test_1_0_gets_no_chunks_and_the_end_of_the_connection_ends_the_content(front: Talk) -> None:
    front.client.get("/", "Connection: keep-alive", version="1.0")
    answer_all(front, b"content")
    answer = front.client.answer()
    assert answer.content == b"content"
    assert "transfer-encoding" not in answer.fields
    assert front.client.got == [CLOSED]


def test_an_idle_connection_is_closed_without_a_word(talk: Talks) -> None:
    one = talk(route("fastcgi"), timeouts=Timeouts(idle_s=5.0, header_s=2.0))
    one.client.get()
    answer_all(one)
    one.client.answer()
    one.wait(4.5)
    one.client << None
    one.wait(1)
    one.client << CLOSED


def test_a_client_that_never_asks_is_closed_without_a_word(talk: Talks) -> None:
    one = talk(route("fastcgi"), timeouts=Timeouts(header_s=2.0))
    one.wait(2.5)
    one.client << CLOSED
    assert one.accesses.records == []


def test_a_slow_head_is_408(talk: Talks) -> None:
    one = talk(route("fastcgi"), timeouts=Timeouts(header_s=2.0))
    for octet in (b"G", b"E", b"T"):
        one.client >> octet
        one.wait(0.5)
    one.wait(1)
    assert one.client.answer().status == 408
    one.client << CLOSED


def test_slow_content_is_408(talk: Talks) -> None:
    one = talk(route("fastcgi"), timeouts=Timeouts(read_s=2.0))
    one.client >> POST + b"\r\n"
    for octet in (b"1", b"2"):
        one.wait(1.5)
        one.client >> octet
    one.wait(2.5)
    assert one.client.answer().status == 408
    assert not one.workers


def test_too_many_connections_are_told_so(talk: Talks) -> None:
    one = talk(route("fastcgi"), limits=Limits(connections=1))
    second = one.connect()
    answer = second.answer()
    assert (answer.status, answer.fields["retry-after"]) == (503, "1")
    second << LINGER  # its request comes still, and must not reset the answer away
    second >> b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" >> EOF
    second << None
    one.client.get()
    answer_all(one)
    assert one.client.answer().status == 200


# ---------------------------------------------------------------------- expectations (54)


def test_100_is_sent_when_the_content_is_wanted(front: Talk) -> None:
    front.client >> POST + b"Expect: 100-continue\r\n\r\n"
    front.client << b"HTTP/1.1 100 Continue\r\n\r\n"
    front.client >> b"hello"
    front.client << None
    Fastcgi(front.worker) << request(1, "POST /", "hello")
    answer_all(front)
    assert front.client.answer().interim == []


def test_no_100_where_the_content_has_begun(front: Talk) -> None:
    front.client >> POST + b"Expect: 100-continue\r\n\r\nhello"
    answer_all(front)
    assert front.client.answer().status == 200


def test_no_100_before_an_early_answer_and_the_connection_ends(talk: Talks) -> None:
    one = talk(route("fastcgi", content_limit=3))
    one.client >> POST + b"Expect: 100-continue\r\n\r\n"
    answer = one.client.answer()
    assert (answer.interim, answer.status, answer.fields["connection"]) == ([], 413, "close")
    one.client << LINGER


def test_a_streaming_route_asks_for_the_content_once_a_worker_is_there(talk: Talks) -> None:
    one = talk(route("fastcgi", request_buffering=False))
    one.connects = False
    one.client >> POST + b"Expect: 100-continue\r\n\r\n"
    one.client << None
    while one.opens:
        one.accept()
    one.client << b"HTTP/1.1 100 Continue\r\n\r\n"


def test_another_expectation_is_417(front: Talk) -> None:
    front.client >> POST + b"Expect: cake\r\n\r\n"
    assert front.client.answer().status == 417


# ---------------------------------------------------------------------- content that nobody reads (56, 100)


def test_a_little_unread_content_is_dropped_and_the_connection_stays(talk: Talks) -> None:
    one = talk(route("fastcgi", request_buffering=False))
    one.client >> POST + b"\r\n"
    answer_all(one, b"early")
    assert one.client.answer().content == b"early"
    one.client >> b"hello" + b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n"
    answer_all(one, b"second")
    assert one.client.answer().content == b"second"


def test_much_unread_content_ends_the_connection_so_that_the_answer_can_be_read(talk: Talks) -> None:
    one = talk(route("fastcgi", content_limit=1000))
    one.client >> b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n"
    answer = one.client.answer()
    assert (answer.status, answer.fields["connection"]) == (413, "close")
    one.client << LINGER
    for _ in range(10):
        one.client.say(b"x" * 100_000)  # read and dropped
    assert not one.client.on_the_way
    one.wait(3)
    assert not one.site.fronts


def test_too_much_chunked_content_is_413_before_a_worker_is_asked(talk: Talks) -> None:
    one = talk(route("fastcgi", content_limit=1000))
    one.client >> b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    one.client >> b"200\r\n" + b"x" * 512 + b"\r\n"
    one.client >> b"200\r\n" + b"x" * 512 + b"\r\n"
    assert one.client.answer().status == 413
    assert not one.workers


def test_bad_framing_of_content_is_400(front: Talk) -> None:
    front.client >> b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n"
    assert front.client.answer().status == 400
    assert not front.workers


def test_bad_framing_after_an_early_answer_ends_the_connection(talk: Talks) -> None:
    one = talk(route("fastcgi", request_buffering=False))
    one.client >> b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
    answer_all(one, b"early")
    one.client >> b"nonsense\r\n"
    assert one.client.answer().content == b"early"
    one.client << LINGER
    assert one.accesses.statuses == [200]


def test_a_client_that_sends_no_more_of_what_nobody_reads_is_left(talk: Talks) -> None:
    one = talk(route("fastcgi", request_buffering=False), timeouts=Timeouts(read_s=2.0))
    one.client >> POST + b"\r\n"
    answer_all(one)
    one.client.answer()
    one.wait(3)
    one.client << CLOSED


# ---------------------------------------------------------------------- the client goes


def test_a_client_that_half_closes_after_its_request_is_taken_for_gone(front: Talk) -> None:
    front.client.get()
    front.client >> EOF
    front.client << CLOSED
    assert front.accesses.statuses == [499]


def test_a_client_that_leaves_in_the_middle_of_its_content(front: Talk) -> None:
    front.client >> POST + b"\r\nhe"
    front.client >> LOST
    assert front.accesses.statuses == [499]
    assert not front.workers


def test_a_client_that_leaves_in_the_middle_of_a_head_leaves_nothing(front: Talk) -> None:
    front.client >> b"GET / HT"
    front.client >> EOF
    front.client << CLOSED
    assert front.accesses.records == []


# ---------------------------------------------------------------------- drain (69, 101)


def test_idle_connections_close_when_the_server_drains(front: Talk) -> None:
    front.client.get()
    answer_all(front)
    front.client.answer()
    front.wait(0.75)
    front.site.drain()
    front.settle()
    front.client << CLOSED


def test_a_kept_connection_is_not_closed_while_its_next_request_may_be_on_the_way(front: Talk) -> None:
    front.client.get()
    answer_all(front)
    front.client.answer()
    front.site.drain()
    front.settle()
    front.client << None
    front.client.get()
    answer_all(front, b"last")
    answer = front.client.answer()
    assert (answer.content, answer.complete) == (b"last", True)
    front.client << CLOSED


def test_connections_that_never_asked_close_when_the_server_drains(front: Talk) -> None:
    front.wait(1.25)
    front.site.drain()
    front.settle()
    front.client << CLOSED


def test_a_connection_that_has_just_come_is_served_when_the_server_drains(front: Talk) -> None:
    """Its request is on the way; if it is not, the engine closes the connection at one of its next sweeps."""
    front.site.drain()
    front.settle()
    front.client << None
    front.client.get()
    answer_all(front, b"last")
    answer = front.client.answer()
    assert (answer.content, answer.complete) == (b"last", True)
    front.client << CLOSED


def test_a_request_in_flight_is_finished_and_told_to_close(front: Talk) -> None:
    front.client.get()
    front.site.drain()
    front.settle()
    front.client << None
    answer_all(front, b"last")
    answer = front.client.answer()
    assert (answer.content, answer.complete) == (b"last", True)
    front.client << CLOSED


def test_content_in_flight_is_finished(front: Talk) -> None:
    front.client >> POST + b"\r\nhe"
    front.site.drain()
    front.settle()
    front.client >> b"llo"
    answer_all(front, b"last")
    assert front.client.answer().content == b"last"
    front.client << CLOSED


# ---------------------------------------------------------------------- retiring: others serve already


def sweep(front: Talk) -> None:
    for one in list(front.site.fronts):
        one.make_room(front.turn.now)
    front.settle()


def test_an_idle_connection_is_answered_once_more_when_the_engine_retires(front: Talk) -> None:
    front.client.get()
    answer_all(front)
    front.client.answer()
    front.wait(1)
    front.site.drain(retiring=True)
    front.wait(2)
    sweep(front)
    front.client << None
    front.client.get()
    answer_all(front, b"last")
    answer = front.client.answer()
    assert (answer.content, answer.complete) == (b"last", True)
    assert answer.fields["connection"] == "close"
    front.client << CLOSED


def test_a_connection_that_stays_quiet_is_closed_when_the_engine_retires(front: Talk) -> None:
    front.client.get()
    answer_all(front)
    front.client.answer()
    front.site.drain(retiring=True)
    front.wait(5.25)
    sweep(front)
    front.client << CLOSED


def test_who_was_told_to_keep_a_connection_may_use_it_when_the_engine_retires(front: Talk) -> None:
    """The head was on its way before the engine knew."""
    front.client.get()
    worker = Fastcgi(front.worker)
    worker << request(1, "GET /") >> stdout(1, b"Content-Type: text/plain\r\nContent-Length: 2\r\n\r\na")
    front.site.drain(retiring=True)
    worker >> stdout(1, b"b") + end(1)
    assert front.client.answer().content == b"ab"
    front.client << None
    front.client.get()
    answer_all(front, b"last")
    assert front.client.answer().content == b"last"
    front.client << CLOSED


def test_a_stop_ends_the_patience_of_an_engine_that_retires(front: Talk) -> None:
    front.client.get()
    answer_all(front)
    front.client.answer()
    front.site.drain(retiring=True)
    front.wait(0.75)
    sweep(front)
    front.client << None
    front.site.drain()
    front.settle()
    front.client << CLOSED


# ---------------------------------------------------------------------- errors


def test_an_error_page_tells_the_exchange_and_nothing_of_the_inside(front: Talk) -> None:
    front.connects = False
    front.client.get()
    while front.opens:
        front.refuse()
    answer = front.client.answer()
    number = answer.fields["x-exchange-id"]
    assert number.encode() in answer.content
    assert b"/w" not in answer.content
    assert f"exchange={number}" in front.log.text
    assert "/w" in front.log.text


def test_an_error_for_head_has_no_content(front: Talk) -> None:
    front.connects = False
    front.client.get(method="HEAD")
    while front.opens:
        front.refuse()
    answer = front.client.answer()
    assert (answer.status, answer.content, answer.complete) == (503, b"", True)
    assert int(answer.fields["content-length"]) > 100


@pytest.mark.parametrize(
    ("target", "status"), [("/%00", 400), ("/..", 400), ("*", 400), ("/%2F", 404)]
)  # fmt: skip
def test_targets_that_are_refused_leave_the_connection_as_it_was(front: Talk, target: str, status: int) -> None:
    front.client.get(target)
    assert front.client.answer().status == status
    front.client.get()
    answer_all(front)
    assert front.client.answer().status == 200


@pytest.mark.parametrize("head", [b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", b"CONNECT / HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_connect_is_refused(front: Talk, head: bytes) -> None:
    front.client >> b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    answer_all(front)
    front.client.answer()
    front.client >> head
    assert front.client.answer().status in (400, 501)
    assert len(front.accesses.records) == 2


# ---------------------------------------------------------------------- clients that do not read (68, 69, 102)

LONG = b"Content-Type: text/plain\n\n" + b"x" * 50_000


def test_a_pipelining_client_that_does_not_read_gets_no_further_answer(front: Talk) -> None:
    front.client.room = 100
    front.client >> b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 5
    front.worker.say(stdout(1, LONG) + stdout(1) + end(1))
    assert front.client.end.held  # type: ignore[union-attr]
    assert len(front.accesses.records) == 1
    front.client.say(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert front.client.on_the_way  # nor is more of it read
    front.client.takes_all()
    for number in range(2, 7):
        assert len(front.accesses.records) == number - 1
        front.worker.say(stdout(number, LONG) + stdout(number) + end(number))
    assert [front.client.answer().status for _ in range(6)] == [200] * 6


def test_a_kept_connection_whose_client_does_not_read_is_asked_for_no_request(front: Talk) -> None:
    front.client.room = 100
    front.client.get()
    front.worker.say(stdout(1, LONG) + stdout(1) + end(1))
    front.client.say(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert front.client.on_the_way
    front.client.takes_all()
    answer_all(front)
    assert [front.client.answer().status for _ in range(2)] == [200] * 2


def test_a_slow_client_may_take_longer_than_any_time_limit_as_long_as_it_goes_on(talk: Talks) -> None:
    one = talk(route("fastcgi"), timeouts=Timeouts(idle_s=2.0, write_s=3.0))
    one.client.room = 100
    one.client.get()
    one.worker.say(stdout(1, LONG) + stdout(1) + end(1))
    for _ in range(10):
        one.wait(2)
        one.client.takes(1000)
    assert one.client.wire is not None
    one.client.takes_all()
    assert one.client.answer().complete
    one.wait(1.5)
    assert one.client.wire is not None  # idle since it has everything
    one.wait(1)
    one.client << CLOSED


def test_a_client_that_stops_reading_after_its_request_was_answered_is_left_and_the_log_says_why(talk: Talks) -> None:
    one = talk(route("fastcgi"), timeouts=Timeouts(write_s=3.0))
    one.client.room = 100
    one.client.get()
    one.worker.say(stdout(1, LONG) + stdout(1) + end(1))
    one.wait(4)
    assert one.client.got[-1] is LOST
    assert "write-timeout: client 192.0.2.1: the client took nothing of a response for 3 s" in one.log.text


def test_a_client_that_stops_reading_in_the_middle_is_told_apart_in_the_log(talk: Talks) -> None:
    one = talk(route("fastcgi"), timeouts=Timeouts(write_s=3.0))
    one.client.room = 100
    one.client.get()
    one.worker.say(stdout(1, LONG))
    one.wait(4)
    assert one.client.got[-1] is LOST
    assert "408 write-timeout: the client took nothing of a response for 3 s" in one.log.text
    assert "route=/ upstream=" in one.log.text


def test_a_connection_that_is_still_being_answered_is_waited_for_when_the_server_drains(front: Talk) -> None:
    front.client.room = 100
    front.client.get()
    front.worker.say(stdout(1, LONG) + stdout(1) + end(1))
    front.site.drain()
    front.settle()
    assert front.site.fronts
    front.client.takes_all()
    assert front.client.answer().complete
    assert not front.site.fronts


# ---------------------------------------------------------------------- further points


def test_the_address_of_an_ipv4_client_is_one_whatever_the_listener(talk: Talks) -> None:
    one = talk(route("fastcgi"))
    one.client.end.accepted(("::ffff:192.0.2.9", 5), ("::ffff:192.0.2.2", 80), 1000.0)  # type: ignore[union-attr]
    assert one.client.end.peer.remote_addr == b"192.0.2.9"  # type: ignore[union-attr]
    one.client.end.accepted(("fe80::1%eth0", 5), ("::1", 80), 1000.0)  # type: ignore[union-attr]
    assert one.client.end.peer.remote_addr == b"fe80::1"  # type: ignore[union-attr]


def test_empty_lines_after_a_request_begin_no_other(talk: Talks) -> None:
    one = talk(route("fastcgi"), timeouts=Timeouts(header_s=1.0, idle_s=30.0))
    one.client.get()
    one.client.say(b"\r\n")
    answer_all(one)
    assert one.client.answer().status == 200
    one.wait(5)
    assert one.client.wire is not None
    one.client.get()
    answer_all(one)
    assert one.client.answer().status == 200


def test_much_content_that_nobody_will_read_is_told_before_the_connection_ends(front: Talk) -> None:
    front.client >> b"POST /../x HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n"
    answer = front.client.answer()
    assert (answer.status, answer.fields["connection"]) == (400, "close")
    front.client << LINGER


def test_chunked_content_that_nobody_reads_is_dropped_up_to_a_bound(front: Talk) -> None:
    head = b"POST /../x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    front.client >> head + b"5\r\nhello\r\n"
    assert front.client.answer().status == 400
    front.client >> b"0\r\n\r\n"
    front.client >> head
    assert front.client.answer().status == 400
    front.client.say(b"50000\r\n" + b"x" * 0x50000)
    front.client << LINGER


def test_a_tunnel_whose_worker_takes_nothing_ends(talk: Talks) -> None:
    one = talk(route("http"), timeouts=Timeouts(write_s=3.0))
    one.client.get("/", "Connection: upgrade", "Upgrade: websocket")
    one.worker >> b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    one.worker.room = 0
    one.client.say(b"x" * 100_000)
    one.client.say(b"x" * 100_000)
    one.wait(2)
    assert one.client.wire is not None
    one.wait(2)
    assert one.client.got[-1] is LOST
    assert "504 tunnel-stalled" in one.log.text
