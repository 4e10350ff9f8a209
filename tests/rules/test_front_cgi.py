"""The CGI front: one request of one process, its environment, stdin and stdout (SEMANTICS 2, 18, 67, 79)."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from gateway.config import Timeouts
from gateway.ends import End
from gateway.errors import GatewayError
from gateway.fronts.cgi import CgiFront
from protocols.message import Response
from tests.rules.hosted import Call, Hosted, Server
from tests.rules.playbook import CLOSED, EOF, LOST, Peer, Wire
from tests.rules.test_front_fastcgi import file_of

GET = {b"REQUEST_METHOD": b"GET", b"REQUEST_URI": b"/a?b", b"SERVER_PROTOCOL": b"HTTP/1.1"}
POST = {b"REQUEST_METHOD": b"POST", b"REQUEST_URI": b"/"}
OK = b"Status: 200 OK\r\n"


class Program(Hosted):
    """A process with its two pipes; no one connects to it."""

    def __init__(self, environment: dict[bytes, bytes], **options: Any) -> None:
        super().__init__(lambda site: End(site.turn), **options)
        self.wires.clear()
        self.program = CgiFront(self.site, environment)
        self.stdin = self._pipe("stdin", self.program.stdin)
        self.stdout = self._pipe("stdout", self.program.stdout)
        self.program.begin()
        self.settle()

    def connect(self, remote: str | None = None) -> Server:
        return Server(self, "nobody", None)

    def _pipe(self, name: str, end: End) -> Peer:
        peer = Peer(self, name, end)
        self.wires.append(Wire(self, end, peer))
        return peer

    @property
    def outcome(self) -> int | None:
        return self.program.exit_code if self.program.finished else None


def test_a_request_without_content() -> None:
    program = Program(GET | {b"PATH": b"/bin", b"SITE": b"example"})
    assert program.call.variables == GET | {b"SITE": b"example"}
    assert (program.call.exchange.request.target, program.call.complete) == (b"/a?b", True)
    assert program.outcome is None
    program.call.respond(b"hello", (b"Content-Type", b"text/plain"))
    program.stdout << OK + b"Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello" << CLOSED
    assert program.outcome == 0
    assert program.statuses == [200]
    assert not program.site.fronts


@pytest.mark.parametrize("environment", [GET, GET | {b"CONTENT_LENGTH": b""}, GET | {b"CONTENT_LENGTH": b"0"}])
def test_18_without_content_stdin_is_never_read(environment: dict[bytes, bytes]) -> None:
    """It may be that of a terminal, or a socket that is kept open."""
    program = Program(environment)
    program.stdin >> b"anything"
    assert program.stdin.on_the_way
    program.call.respond(b"")
    assert program.outcome == 0


def test_18_content_is_complete_with_its_last_octet_and_stdin_need_not_end() -> None:
    program = Program(POST | {b"CONTENT_LENGTH": b"5"})
    program.stdin >> b"hel"
    assert (program.call.got, program.call.complete) == (b"hel", False)
    program.stdin >> b"lo and more"
    assert (program.call.got, program.call.complete) == (b"hello", True)
    program.stdin >> b"and more"
    assert program.stdin.on_the_way
    program.call.respond(b"")
    assert program.outcome == 0


@pytest.mark.parametrize("sign", [EOF, LOST])
def test_content_that_ends_too_early_is_400(sign: Any) -> None:
    program = Program(POST | {b"CONTENT_LENGTH": b"5"})
    program.stdin >> b"hell"
    program.stdin >> sign
    assert program.stdout.take().startswith(b"Status: 400 Bad Request\r\n")
    assert program.outcome == 0


@pytest.mark.parametrize("environment", [{}, GET | {b"CONTENT_LENGTH": b"x"}])
def test_what_is_no_request_is_400(environment: dict[bytes, bytes]) -> None:
    program = Program(environment)
    assert program.stdout.take().startswith(b"Status: 400 Bad Request\r\n")
    assert program.outcome == 0
    assert "correct the parameters" in program.log.text


def test_67_79_a_response_that_breaks_off_has_an_exit_code() -> None:
    program = Program(GET)
    program.call.head()
    program.stdout << OK + b"\r\n"
    program.call.fail()
    program.stdout << LOST
    assert program.outcome == 1


def test_a_web_server_that_takes_no_more_has_left() -> None:
    program = Program(GET)
    program.call.head()
    program.stdout >> LOST
    assert program.call.client_left
    assert program.outcome == 1
    assert program.statuses == [200]


def test_one_that_leaves_before_the_last_octet_is_out() -> None:
    program = Program(GET)
    program.stdout.room = 10
    program.call.respond(b"hello")
    assert program.outcome is None
    wire = program.stdout.wire
    assert wire is not None
    wire.gone(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    assert program.outcome == 1


def test_head_has_no_content_and_interim_responses_are_dropped() -> None:
    program = Program({b"REQUEST_METHOD": b"HEAD"})
    program.call.head(status=103)
    with pytest.raises(GatewayError):
        program.call.exchange.client.tunnel(Response(101, ()))
    program.call.respond(b"hello")
    program.stdout << OK + b"Content-Length: 5\r\n\r\n" << CLOSED


def test_back_pressure_both_ways() -> None:
    program = Program(POST | {b"CONTENT_LENGTH": b"10"})
    program.call.fills = True
    program.stdin >> b"hello"
    program.stdin >> b"wor"
    assert program.stdin.on_the_way
    program.call.fills = False
    program.call.takes()
    program.stdin >> b"ld"
    assert (program.call.got, program.call.complete) == (b"helloworld", True)
    program.stdout.room = 10
    program.call.head()
    assert not program.call.wanted
    program.stdout.takes_all()
    assert program.call.wanted


def test_a_file_goes_out_piece_by_piece() -> None:
    closed: list[bool] = []
    program = Program(GET)
    program.stdout.room = 10
    program.call.head(length=300_000).say(file_of(b"?" + b"f" * 300_000, closed)).end()
    assert not closed
    program.stdout.takes_all()
    program.stdout << OK + b"Content-Length: 300000\r\n\r\n" + b"f" * 300_000 << CLOSED
    assert (closed, program.outcome) == ([True], 0)


@pytest.mark.parametrize("how", ["lost", "short"])
def test_a_file_is_closed_whatever_happens(how: str) -> None:
    closed: list[bool] = []
    program = Program(GET)
    program.stdout.room = 10
    piece = file_of(b"?" + b"f" * 300_000, closed)
    piece.length += how == "short"
    program.call.head().say(piece).end()
    if how == "lost":
        program.stdout >> LOST
    else:
        program.stdout.takes_all()
    assert (closed, program.outcome) == ([True], 1)


def test_deadlines_are_those_of_the_exchange() -> None:
    program = Program(GET, response_s=10.0)
    program.wait(9)
    assert program.statuses == []
    program.wait(2)
    assert program.stdout.take().startswith(b"Status: 504 ")
    assert program.outcome == 0


def test_bounds_where_they_are_set() -> None:
    slow = Program(POST | {b"CONTENT_LENGTH": b"5"}, timeouts=Timeouts(read_s=10))
    slow.wait(11)
    assert slow.stdout.take().startswith(b"Status: 408 ")
    stuck = Program(GET, timeouts=Timeouts(write_s=10))
    stuck.stdout.room = 10
    stuck.call.respond(b"hello")
    stuck.wait(11)
    assert stuck.outcome == 1


def test_the_server_may_end_meanwhile() -> None:
    program = Program(GET)
    program.site.drain()
    for front in list(program.site.fronts):
        front.make_room(program.turn.now + 10)
    program.settle()
    assert program.outcome is None
    call: Call = program.call
    call.respond(b"")
    assert program.outcome == 0
