"""The interface `wsgi`: an application in this process, called by PEP 3333.

Promise: exactly one response, or a visible break, whatever the application does; what it yields is on its way
before the next piece is asked for; `close()` of its result is called once, also when the client has left.
Must never know: the front, which thread it runs in. Next: `gateway/hosting/wsgi_streams.py`, `environ.py`, `heads.py`.

A call lives in two threads, which may be one. The exchange's methods (Call) and those that are entered (`_deliver`,
`_fail`, `_pump`, `_end`) run in the rules' thread; it alone touches the exchange's state and writes `gone`, `wanted`,
`handed_over`. `run`, and all that the application calls, runs in the other one, and writes all the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from gateway.ends import FileSlice, Outgoing, Run, Streams
from gateway.errors import GatewayError
from gateway.hosting.environ import Environs
from gateway.hosting.faults import Disconnected, app_error, comes_of_leaving, full_traceback, summary
from gateway.hosting.heads import Head, Heads
from gateway.hosting.wsgi_streams import Errors, FileWrapper, Input
from protocols.message import ProtocolError, Response

if TYPE_CHECKING:
    from gateway.exchange import Exchange
    from gateway.site import Site

WsgiApp: TypeAlias = Callable[[dict[str, Any], Any], Iterable[bytes]]

AHEAD_BYTES: Final = 64 * 1024
"""Octets of a response that may be on their way to the rules' thread."""
JOIN_BYTES: Final = 64 * 1024
"""Pieces of a list that are no more together leave as one."""


class WsgiInterface:
    """One application, and its calls."""

    needs_length = True  # applications read CONTENT_LENGTH octets, and know no other end of content
    spools = False

    def __init__(self, site: Site, app: WsgiApp, *, multithread: bool, multiprocess: bool, run_once: bool) -> None:
        self.site = site
        self.app = app
        self.running = 0
        """Calls that have not come back."""
        self.closed = False
        self.heads = Heads()
        self.environs = Environs(
            site.software,
            {
                "wsgi.version": (1, 0), "wsgi.multithread": multithread, "wsgi.multiprocess": multiprocess,
                "wsgi.run_once": run_once, "wsgi.file_wrapper": FileWrapper, "wsgi.input_terminated": True,
            },
        )  # fmt: skip

    def start(self, exchange: Exchange) -> None:
        """Have the application called where it may block."""
        call = WsgiCall(self, exchange)
        self.running += 1
        content = call.input
        whole = exchange.whole_content()
        if whole is not None:
            if whole:
                content.add(whole)
            content.complete = True
        exchange.connected(call)
        self.site.turn.orders.append(Run(call))
        if whole is None:
            if exchange.request.expects_continue:  # 100 as soon as the application reads, if it ever does (PEP 3333)
                content.waits = True
            else:
                exchange.pump()

    def ended(self) -> None:
        """A call has come back."""
        if not self.closed:
            self.running -= 1

    def tick(self, now: float) -> None:
        """Nothing is kept that could grow old."""

    def let_go(self) -> None:
        """Nothing is kept for the next request."""

    def close(self) -> None:
        """The server ends. A call can't be ended from outside: nobody is to wait for it any longer."""
        self.closed = True
        self.running = 0


class WsgiCall:
    """One call of the application."""

    __slots__ = (
        "ended", "exchange", "gone", "handed_in", "handed_over", "head", "input", "interface", "length", "rest", "sent",
        "streams", "to_head", "upstream", "wanted",
    )  # fmt: skip

    def __init__(self, interface: WsgiInterface, exchange: Exchange) -> None:
        self.interface = interface
        self.exchange = exchange
        self.input = Input(self._pump)
        self.upstream = ""
        self.length = exchange.content_length
        self.to_head = exchange.request.method == b"HEAD"
        self.gone = False
        """The exchange wants nothing more of us."""
        self.wanted = True
        """Whether the response may come."""
        self.handed_over = 0
        self.streams: Streams | None = None
        self.head: Head | None = None
        self.sent = False
        """Whether the head is on its way."""
        self.ended = False
        """Whether the end of the response is on its way."""
        self.rest = -1
        """Octets of content that have still to come, -1 where no length was given."""
        self.handed_in = 0

    # ------------------------------------------------------------------ for the exchange (Call)

    def content(self, octets: bytes) -> None:
        self.input.add(octets)

    def content_end(self) -> None:
        self.input.complete = True

    def abort(self, *, client_left: bool = False) -> None:
        self.gone = True
        self.input.gone = True

    def read(self, wanted: bool) -> None:
        self.wanted = wanted

    @property
    def full(self) -> bool:
        return self.input.full

    def room(self) -> None:
        self.input.waits = True

    # ------------------------------------------------------------------ in the rules' thread

    def _pump(self) -> None:
        if not self.gone:
            self.exchange.pump()

    def _deliver(self, response: Response | None, pieces: list[Outgoing], octets: int, end: bool) -> None:
        """Some of the response: its head, content, and its end."""
        self.handed_over += octets
        exchange = self.exchange
        if self.gone:
            for piece in pieces:
                if isinstance(piece, FileSlice):
                    piece.close()
            return
        try:
            if response is not None:
                exchange.respond(response)
            for piece in pieces:
                exchange.response_content(piece)
        except ProtocolError as error:
            self._fail(GatewayError(500, "app-error", f"the application's response can't be encoded: {error.detail}"))
            return
        if end:
            self.gone = self.input.gone = True
            exchange.call = None
            exchange.response_end()
        else:
            exchange.wait_for_more()

    def _fail(self, error: GatewayError) -> None:
        if not self.gone:
            self.exchange.failed(error)

    # ------------------------------------------------------------------ where the application runs

    def run(self, streams: Streams) -> None:
        """Call the application, and send what it returns (Work)."""
        self.streams = self.input.streams = streams
        result: Any = None
        errors = Errors(self.exchange)
        if not self.gone:
            try:
                environ = self.interface.environs.of(self.exchange, self.length)
                environ["wsgi.input"] = self.input
                environ["wsgi.errors"] = errors
                result = self.interface.app(environ, self.start_response)
                if not self._left():
                    self._send_result(result)
            except BaseException as error:  # SystemExit, too: an application does not end the server
                self._raised(error, errors)
        close = getattr(result, "close", None)
        if close is not None:
            try:
                close()
            except BaseException as error:
                self._raised(error, errors)
        errors.end()
        self.input.end()
        streams.enter(self.interface.ended)

    def start_response(self, status: Any, response_headers: Any, exc_info: Any = None) -> Callable[[Any], None]:
        """PEP 3333, "The start_response() Callable". (An application may pass anything: what it was is ours to tell.)"""
        if exc_info is not None:
            try:
                if self.sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # no circle through the frame
        elif self.head is not None:
            raise AssertionError("start_response was called a second time, without exc_info (PEP 3333)")
        head = self.head = self.interface.heads.wsgi(status, response_headers)
        self.rest = -1 if head.length is None or head.bare or self.to_head else head.length
        return self.write

    def write(self, piece: Any) -> None:
        """PEP 3333, "The write() Callable": returns when the client takes more. Raises Disconnected."""
        if self._left():
            raise Disconnected("the client has left before all of the response was written")
        octets = _checked(piece)
        if octets:
            self._send(octets)
            self._wait_for_room()

    def _send_result(self, result: Any) -> None:
        if type(result) is list or type(result) is tuple:
            self._send_list(result)
            return
        if result is None or isinstance(result, (bytes, str)):
            what = "None" if result is None else f"{type(result).__name__}, whose items are no bytes"
            raise TypeError(f"the application returned {what}: it has to return an iterable of bytes, such as [b'...']")
        if type(result) is FileWrapper and self._send_file(result):
            return
        if self.head is not None and self.rest < 0 and not self.sent and _is_one(result):
            for piece in result:
                self._send_list([piece])
                return
        for piece in result:
            octets = _checked(piece)
            if self._left() or (octets and not self._send(octets)):
                return
            self._wait_for_room()  # also for the end of its generator, once it is complete by its Content-Length
            if self._left():
                return
        self._finish()

    def _send_list(self, pieces: list[Any] | tuple[Any, ...]) -> None:
        """All of the content is here: it leaves at once, and its length is known."""
        octets = [_checked(piece) for piece in pieces]
        total = sum(map(len, octets))
        head = self._the_head()
        if self.ended or (total and head.bare):
            if total and not self.to_head:
                self._overrun()
            octets, total = [], 0
        elif self.rest >= 0 and total != self.rest:
            if total < self.rest:
                raise self._too_short(total)
            self._overrun()
            total = self.rest
            octets = [b"".join(octets)[:total]]
        if self.ended:
            return
        length = head.length
        if length is None and not head.bare:
            length = total
        if self.to_head:
            octets = []
        elif len(octets) > 1 and total <= JOIN_BYTES:
            octets = [b"".join(octets)]
        self._hand_in([piece for piece in octets if piece], total, length, end=True)

    def _send_file(self, wrapper: FileWrapper) -> bool:
        """Let the kernel send it; False if it has to be read."""
        head = self._the_head()
        if head.bare or self.ended or (self.sent and self.rest < 0):  # in chunks, no file goes by itself
            return False
        if self.to_head and head.length is not None:
            self._hand_in([], 0, head.length, end=True)
            return True
        piece = wrapper.slice(self.rest if self.rest >= 0 else None)
        if piece is None:
            return False
        total = len(piece)
        if total < self.rest:
            piece.close()
            raise self._too_short(total)
        length = total if head.length is None else head.length
        if self.to_head or not total:
            piece.close()
            self._hand_in([], 0, length, end=True)
        else:
            self._hand_in([piece], 0, length, end=True)
        return True

    def _send(self, octets: bytes) -> bool:
        """A piece that is not empty, with the head before it if that has not left, and the end if no more may come.

        False: there is no place for it, nor for any further one.
        """
        head = self._the_head()
        if self.ended or self.to_head or head.bare:
            if not self.to_head:
                self._overrun()
            if not self.ended:
                self._hand_in([], 0, head.length, end=True)
            return False
        rest = self.rest
        if rest >= 0:
            if len(octets) > rest:
                self._overrun()
                octets = octets[:rest]
            rest = self.rest = rest - len(octets)
        self._hand_in([octets] if octets else [], len(octets), head.length, end=rest == 0)
        return True

    def _finish(self) -> None:
        """The result is exhausted."""
        if self.ended:
            return
        head = self._the_head()
        if self.rest > 0:
            raise self._too_short(0)
        length = head.length
        if length is None and not self.sent and not head.bare and not self.to_head:
            length = 0
        self._hand_in([], 0, length, end=True)

    def _hand_in(self, pieces: list[Any], octets: int, length: int | None, *, end: bool) -> None:
        """To the rules' thread: all at once, since from another one each time costs a wake-up."""
        assert self.streams is not None
        response: Response | None = None
        if not self.sent:
            self.sent = True
            response = self._the_head().response(length)
        self.handed_in += octets
        self.ended = end
        self.streams.enter(self._deliver, response, pieces, octets, end)

    def _wait_for_room(self) -> None:
        if not self.ended and not self._may_go_on():
            assert self.streams is not None
            self.streams.wait(self._may_go_on)

    def _left(self) -> bool:
        """Whether nobody wants the rest of the response."""
        return self.gone and not self.ended

    def _may_go_on(self) -> bool:
        return self.gone or (self.wanted and self.handed_in - self.handed_over <= AHEAD_BYTES)

    # ------------------------------------------------------------------ what goes wrong

    def _the_head(self) -> Head:
        if self.head is None:
            raise AssertionError("the application never called start_response, or not before its first piece of content")
        return self.head

    def _overrun(self) -> None:
        self.interface.site.report_overrun(self.exchange)

    def _too_short(self, last: int) -> ValueError:
        """`last`: octets of content that were about to be sent."""
        length = self._the_head().length or 0
        return ValueError(f"Content-Length is {length}, and only {length - self.rest + last} octets of content came")

    def _raised(self, error: BaseException, errors: Errors) -> None:
        """The application, or what it did with us, has failed: at any time, once its response is complete too."""
        if self._left() and (comes_of_leaving(error) or not isinstance(error, Exception)):
            return  # it has done as it was told
        errors.end()
        errors.write(full_traceback(error))
        if self.ended:
            errors.write(f"{summary(error)}: the response was complete before\n")
            return
        self.ended = True
        assert self.streams is not None
        self.streams.enter(self._fail, app_error(error, self.interface.app, begun=self.sent))


def _checked(piece: Any) -> bytes:
    if type(piece) is bytes:
        return piece
    if isinstance(piece, bytes):
        return bytes(piece)
    raise TypeError(f"a piece of content has to be bytes, not {type(piece).__name__}")


def _is_one(result: Any) -> bool:
    """Whether it says that there is one piece only (PEP 3333, "Handling the Content-Length Header")."""
    try:
        return len(result) == 1
    except Exception:  # most have no length
        return False
