"""The rules of an exchange with an SCGI worker, as conversations (SEMANTICS 3, 25, 46, 47, 99)."""

from __future__ import annotations

import errno

import pytest

from gateway.ends import Address
from protocols.message import Content, EndOfMessage
from protocols.scgi import Begin, RequestReader
from tests.rules.conftest import Talks
from tests.rules.playbook import CLOSED, EOF, LOST, Peer, Talk, route

HEAD = b"Content-Type: text/plain\n\n"


@pytest.fixture
def scgi(talk: Talks) -> Talk:
    return talk(route("scgi"))


def asked(peer: Peer) -> tuple[dict[bytes, bytes], bytes, bool]:
    """The meta-variables and the content that a worker has got, and whether that is all."""
    begin, content, complete = {}, b"", False
    for event in RequestReader().receive(peer.take()):
        if isinstance(event, Begin):
            begin = dict(event.pairs)
        elif isinstance(event, Content):
            content += event.data
        else:
            assert isinstance(event, EndOfMessage)
            complete = True
    return begin, content, complete


def test_a_request_and_its_answer(scgi: Talk) -> None:
    scgi.client.post("/a?b", b"content")
    variables, content, complete = asked(scgi.worker)
    assert (variables[b"CONTENT_LENGTH"], variables[b"REQUEST_URI"], variables[b"PATH_INFO"]) == (b"7", b"/a?b", b"/a")
    assert (content, complete) == (b"content", True)
    scgi.worker >> HEAD + b"hel" >> b"lo" >> EOF
    answer = scgi.client.answer()
    assert (answer.content, answer.complete) == (b"hello", True)
    scgi.worker << CLOSED


def test_a_get_has_a_length_of_0(scgi: Talk) -> None:
    scgi.client.get()
    assert asked(scgi.worker)[0][b"CONTENT_LENGTH"] == b"0"


def test_each_request_has_a_connection_of_its_own(scgi: Talk) -> None:
    for number in range(3):
        scgi.client.get()
        scgi.worker >> HEAD + b"%d" % number >> EOF
        assert scgi.client.answer().content == b"%d" % number
    assert len(scgi.workers) == 3


def test_chunked_content_gets_a_length_first(scgi: Talk) -> None:
    scgi.client >> b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    assert not scgi.workers
    scgi.client >> b"0\r\n\r\n"
    assert asked(scgi.worker)[1:] == (b"hello", True)


def test_content_with_a_length_streams(scgi: Talk) -> None:
    scgi.client >> b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello"
    variables, content, complete = asked(scgi.worker)
    assert (variables[b"CONTENT_LENGTH"], content, complete) == (b"10", b"hello", False)
    scgi.client >> b"world"
    scgi.worker << b"world"


def test_our_side_is_never_half_closed(scgi: Talk) -> None:
    """Some servers take that for an abort (lighttpd#2743)."""
    scgi.client.post("/", b"content")
    assert asked(scgi.worker)[2]
    scgi.worker << None


def test_an_early_answer_reaches_the_client(scgi: Talk) -> None:
    scgi.client >> b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello"
    scgi.worker >> HEAD + b"early" >> EOF
    assert scgi.client.answer().content == b"early"
    scgi.client >> b"world"
    scgi.client.get()
    scgi.worker >> HEAD + b"second" >> EOF
    assert scgi.client.answer().content == b"second"


@pytest.mark.parametrize("sent", [b"hello", b"helloworld"])
def test_an_early_answer_may_end_with_a_reset(scgi: Talk, sent: bytes) -> None:
    """A kernel resets where content was left unread, whether or not we had sent all of it (RFC 1122 4.2.2.13)."""
    scgi.client >> b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n" + sent
    scgi.worker >> HEAD + b"early" >> LOST
    answer = scgi.client.answer()
    assert (answer.content, answer.complete) == (b"early", True)
    assert scgi.pool.members[0].open == 0


@pytest.mark.parametrize("half", [b"Content-Ty", b"Status: 200\nContent-Length: 9\n\nearly"])
def test_an_early_answer_that_is_not_whole_is_none(scgi: Talk, half: bytes) -> None:
    scgi.client >> b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello"
    scgi.worker >> half >> LOST
    answer = scgi.client.answer()
    assert (answer.status, answer.complete) in ((502, True), (200, False))
    assert len(scgi.workers) == 1


def test_a_status_line_is_tolerated(scgi: Talk) -> None:
    scgi.client.get()
    scgi.worker >> b"HTTP/1.1 404 Gone\r\nContent-Length: 2\r\n\r\nno" >> EOF
    answer = scgi.client.answer()
    assert (answer.status, answer.content) == (404, b"no")


def test_less_than_its_content_length_is_a_break(scgi: Talk) -> None:
    scgi.client.get()
    scgi.worker >> b"Status: 200\nContent-Length: 9\n\nhello" >> EOF
    assert not scgi.client.answer().complete


def test_more_than_its_content_length_is_cut_and_logged(scgi: Talk) -> None:
    scgi.client.get()
    scgi.worker >> b"Status: 200\nContent-Length: 2\n\nhello" >> EOF
    assert scgi.client.answer().content == b"he"
    assert "beyond its Content-Length" in scgi.log.text


def test_a_reset_instead_of_an_end_is_a_break(scgi: Talk) -> None:
    scgi.client.get()
    scgi.worker >> HEAD + b"half" >> LOST
    assert not scgi.client.answer().complete


@pytest.mark.parametrize("half", [b"", b"Content-Ty", b"<html>\n\n", b"\n\n"])
def test_no_header_is_502(scgi: Talk, half: bytes) -> None:
    scgi.client.post("/", b"x")
    if half:
        scgi.worker >> half
    if scgi.worker.wire is not None:
        scgi.worker >> EOF
    assert scgi.client.answer().status == 502
    assert len(scgi.workers) == 1


def test_an_idempotent_request_is_sent_again_if_nothing_came(scgi: Talk) -> None:
    scgi.client.get("/a")
    scgi.worker >> EOF
    assert len(scgi.workers) == 2
    scgi.worker >> HEAD + b"second" >> EOF
    assert scgi.client.answer().content == b"second"


def test_a_post_is_sent_again_if_nobody_listened(scgi: Talk) -> None:
    scgi.connects = False
    scgi.client.post("/", b"content")
    scgi.refuse()
    scgi.accept()
    assert asked(scgi.worker)[1] == b"content"


@pytest.mark.parametrize("code", [errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ECONNRESET])
def test_a_post_is_not_sent_again_once_it_may_have_arrived(scgi: Talk, code: int) -> None:
    """The network went away after the connection stood: what has arrived nobody knows."""
    scgi.client.post("/", b"content")
    wire = scgi.worker.wire
    assert wire is not None
    wire.gone(OSError(code, errno.errorcode[code]))
    scgi.settle()
    assert scgi.client.answer().status == 502
    assert len(scgi.workers) == 1


def test_a_connection_that_is_not_accepted_in_time_is_a_try_at_the_other_worker(talk: Talks) -> None:
    addresses = (Address(path="/a"), Address(path="/b"))
    one = talk(route("scgi", connect_s=1.0, response_s=9.0, addresses=addresses))
    one.connects = False
    one.client.post("/", b"content")
    late = one.opens[0].address
    one.wait(1.25)
    assert [order.address for order in one.opens] != [late]
    one.accept()
    assert asked(one.worker)[1] == b"content"
    one.worker >> HEAD + b"hello" >> EOF
    assert one.client.answer().content == b"hello"
    assert "connect-timeout" in one.log.text


def test_a_client_that_leaves_ends_the_connection(scgi: Talk) -> None:
    scgi.client.get()
    scgi.client >> LOST
    scgi.worker.take()
    scgi.worker << LOST
    assert scgi.pool.members[0].open == 0


def test_a_local_redirect(scgi: Talk) -> None:
    scgi.client.post("/a", b"content")
    scgi.worker >> b"Location: /b\n\n"
    variables, content, _ = asked(scgi.worker)
    assert (variables[b"REQUEST_METHOD"], variables[b"REQUEST_URI"], content) == (b"GET", b"/b", b"")
    assert b"CONTENT_TYPE" not in variables
    scgi.worker >> HEAD + b"b" >> EOF
    assert scgi.client.answer().content == b"b"


def test_a_worker_that_does_not_read_holds_the_client_back(scgi: Talk) -> None:
    scgi.client >> b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n"
    scgi.worker.take()
    scgi.worker.room = 10
    for _ in range(5):
        scgi.client >> b"x" * 60_000
    assert len(scgi.client.on_the_way) == 4
    scgi.worker.takes_all()
    assert len(scgi.worker.take()) == 300_000


def test_a_local_redirect_before_the_content_has_come(scgi: Talk) -> None:
    scgi.client >> b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello"
    scgi.worker >> b"Location: /b\n\n"
    scgi.client >> b"world"
    assert asked(scgi.worker)[1:] == (b"", True)
    scgi.worker >> HEAD + b"b" >> EOF
    assert scgi.client.answer().content == b"b"
    scgi.client.get("/c")
    assert asked(scgi.worker)[0][b"REQUEST_URI"] == b"/c"


def test_content_that_has_come_so_far_is_kept_for_a_worker_that_listens(scgi: Talk) -> None:
    scgi.connects = False
    scgi.client >> b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello"
    scgi.refuse()
    scgi.accept()
    assert asked(scgi.worker)[1] == b"hello"
    scgi.client >> b"world"
    scgi.worker << b"world"


def test_content_that_a_worker_has_had_is_not_there_for_another(scgi: Talk) -> None:
    scgi.client >> b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello"
    scgi.worker >> LOST
    assert scgi.client.answer().status == 502
    assert len(scgi.workers) == 1


def test_content_waits_in_line_no_longer_than_for_a_response(talk: Talks) -> None:
    one = talk(route("cgi", processes=1, response_s=2.0, read_s=60.0))
    one.client.get()
    one.script.stdout >> HEAD
    other = one.connect()
    other >> b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello"
    one.wait(2.5)
    assert other.answer().status == 503


def test_a_worker_that_does_not_read_its_content_is_504(talk: Talks) -> None:
    one = talk(route("scgi", response_s=2.0))
    one.client >> b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n"
    one.worker.room = 60_000
    for _ in range(3):
        one.client >> b"x" * 40_000
        one.wait(1.5)
    one.wait(1)
    assert one.client.answer().status == 504


def test_content_may_take_longer_than_a_response_as_long_as_it_goes_on(talk: Talks) -> None:
    one = talk(route("scgi", response_s=2.0))
    one.client >> b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n"
    for _ in range(6):
        one.wait(1.5)
        one.client >> b"x"
    one.worker >> HEAD >> EOF
    assert one.client.answer().status == 200


def test_content_that_was_kept_may_take_longer_than_a_response_as_long_as_it_goes_on(talk: Talks) -> None:
    one = talk(route("scgi", response_s=2.0))
    one.connects = False
    content = b"%x\r\n%b\r\n0\r\n\r\n" % (400_000, b"x" * 400_000)
    one.client >> b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + content
    one.accept(room=1000)
    for _ in range(6):
        one.wait(1.5)
        one.worker.takes(70_000)
    one.worker >> HEAD >> EOF
    assert one.client.answer().status == 200


# ---------------------------------------------------------------------- connections opened ahead of need


@pytest.fixture
def ahead(talk: Talks) -> Talk:
    """Two connections stand open, and one request has been answered."""
    one = talk(route("scgi", preconnect=2))
    one.client.get()
    one.workers[0] >> HEAD + b"0" >> EOF
    assert one.client.answer().content == b"0"
    assert len(one.workers) == 3
    return one


def test_a_request_takes_the_oldest_of_those_that_stand_and_another_one_is_opened(ahead: Talk) -> None:
    for number in (1, 2, 3):
        ahead.client.get()
        assert asked(ahead.workers[number])[2]
        assert len(ahead.workers) == number + 3
        ahead.workers[number] >> HEAD + b"%d" % number >> EOF
        assert ahead.client.answer().content == b"%d" % number


def test_one_that_the_worker_closes_or_that_speaks_first_is_not_used(ahead: Talk) -> None:
    ahead.workers[1] >> EOF
    ahead.workers[2] >> b"too early"
    ahead.workers[2] << CLOSED
    ahead.client.get()
    ahead.workers[3] >> HEAD + b"new" >> EOF
    assert ahead.client.answer().content == b"new"


@pytest.mark.parametrize("end", [EOF, LOST])
def test_one_that_turns_out_to_be_dead_costs_another_try_on_a_new_one(ahead: Talk, end: object) -> None:
    ahead.client.get()
    ahead.workers[1] >> end
    assert asked(ahead.worker)[2]
    ahead.worker >> HEAD + b"new" >> EOF
    assert ahead.client.answer().content == b"new"


def test_content_that_may_have_been_taken_is_not_sent_again(ahead: Talk) -> None:
    ahead.client.post("/", b"once")
    ahead.workers[1] >> LOST
    assert ahead.client.answer().status == 502


def test_where_nobody_listens_none_is_opened_ahead(ahead: Talk) -> None:
    ahead.connects = False
    for peer in ahead.workers[1:3]:
        peer >> LOST
    opened = ahead.ever_opened
    ahead.client.get()
    while ahead.opens:
        ahead.refuse()
    assert ahead.client.answer().status == 503
    ahead.client = ahead.connect()
    ahead.client.get()
    while ahead.opens:
        ahead.refuse()
    assert ahead.client.answer().status == 503
    assert ahead.ever_opened <= opened + 3 + 3 + 2  # attempts, and two ahead before it was known


def test_none_is_kept_for_long_where_there_are_no_requests(ahead: Talk) -> None:
    ahead.wait(29)
    assert all(peer.wire is not None for peer in ahead.workers[1:3])
    ahead.wait(2)
    ahead.workers[1] << CLOSED
    ahead.workers[2] << CLOSED
    assert len(ahead.workers) == 3
    ahead.client = ahead.connect()
    ahead.client.get()
    ahead.workers[3] >> HEAD + b"again" >> EOF
    assert ahead.client.answer().content == b"again"


def test_one_that_does_not_come_to_stand_is_given_up_in_time(talk: Talks) -> None:
    one = talk(route("scgi", preconnect=1))
    one.connects = False
    one.client.get()
    worker = one.accept()
    one.wait(6)
    assert not one.opens
    worker >> HEAD + b"x" >> EOF
    assert one.client.answer().content == b"x"


def test_a_request_may_wait_for_one_that_is_about_to_stand(talk: Talks) -> None:
    one = talk(route("scgi", preconnect=1))
    one.connects = False
    one.client.get()
    one.accept() >> HEAD + b"0" >> EOF
    assert one.client.answer().content == b"0"
    one.client.get()
    one.accept() >> HEAD + b"1" >> EOF
    assert one.client.answer().content == b"1"
    one.client.get()
    one.wait(6)
    assert one.client.answer().status == 504
