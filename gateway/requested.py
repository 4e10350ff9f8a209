"""A request that a web server has told in meta-variables: what its exchange sees of that web server.

Promise: written once for FastCGI, SCGI and CGI; content is neither longer nor shorter than CONTENT_LENGTH,
and none is waited for beyond it; whatever cannot be read as a request is answered like any failure.
Must never know: records, netstrings, pipes. Next: `fronts/fastcgi.py`, `scgi.py`, `cgi.py`, which carry it.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final, Protocol

from gateway.ends import WINDOW, FileSlice, Outgoing
from gateway.errors import GatewayError, Side
from gateway.exchange import Exchange
from gateway.pieces import Pieces
from protocols.cgi_application import ScriptResponseWriter, content_length, peer_of, request_of
from protocols.message import FieldLines, Peer, RemoteProtocolError, Request, Response

if TYPE_CHECKING:
    from gateway.site import Site


class Carrier(Protocol):
    """A front, as a request on it needs it."""

    deadline: float
    """Of the connection: to be lowered only."""
    sends_files: bool
    """Whether a file can go out by itself, without passing through here."""

    @property
    def clogged(self) -> bool:
        """Whether the web server takes no more of the response for now."""

    def output(self, request: CgiRequest, octets: Outgoing) -> None:
        """Send some of a response."""

    def pump_later(self) -> None:
        """Call `pump` of its requests when there is room."""

    def ended(self, request: CgiRequest) -> None:
        """The response has been handed over, whole."""

    def break_off(self, request: CgiRequest) -> None:
        """It will never be complete: let the web server see that."""

    def regulate(self) -> None:
        """The request wants content, or wants none now."""


class CgiRequest:
    """One request."""

    __slots__ = (
        "awaits_content", "begun", "carrier", "complete", "exchange", "id", "input_ended", "last_read", "peer", "pieces",
        "rest", "site", "variables", "wanted", "writer",
    )  # fmt: skip

    def __init__(self, site: Site, carrier: Carrier, variables: Mapping[bytes, bytes], request_id: int = 0) -> None:
        self.site = site
        self.carrier = carrier
        self.id = request_id
        self.variables: Mapping[bytes, bytes] | None = variables
        self.peer: Peer = peer_of(variables)
        self.exchange: Exchange | None = None
        self.writer = _NO_WRITER
        self.begun = False
        self.complete = False
        """Whether all of the response is here, although not all of it is on its way."""
        self.awaits_content = True
        """Whether more content has to come."""
        self.wanted = True
        """Whether the exchange wants it now."""
        self.input_ended = False
        """Whether the web server has sent all that belongs to this request."""
        self.rest = -1
        """Octets of content that have still to come, -1 where only the end of the input tells."""
        self.last_read = site.turn.now
        self.pieces: Pieces | None = None
        """What of the response waits behind a file."""

    # ------------------------------------------------------------------ from the front

    def begin(self) -> None:
        """The meta-variables are here."""
        assert self.variables is not None
        try:
            length = content_length(self.variables)
        except RemoteProtocolError as error:
            self._bad(error)
            return
        if length is not None:
            self.start(length)
        else:  # nginx without buffering tells no length: whether there is content, what comes next tells, mostly at once
            self._wait()

    def start(self, length: int | None) -> None:
        """So much content is to come."""
        assert self.variables is not None
        try:
            request = request_of(self.variables, length)
        except RemoteProtocolError as error:
            self._bad(error)
            return
        self.begun = True
        self.awaits_content = length != 0
        self.rest = -1 if length is None else length
        self.writer = ScriptResponseWriter(request.method)
        exchange = self.exchange = Exchange(self.site, self, request)
        if self.carrier.clogged:
            exchange.client_room(False)
        if self.awaits_content:
            self._wait()
        exchange.begin()

    def refuse(self, error: GatewayError) -> None:
        """Answer before there is a request that could be routed."""
        self.begun = True
        self.awaits_content = False
        self.writer = _NO_WRITER
        self.exchange = Exchange(self.site, self, _NO_REQUEST)
        self.exchange.failed(error)

    def _bad(self, error: RemoteProtocolError) -> None:
        remedy = "correct the parameters in the web server's config"
        self.refuse(GatewayError(error.status, "bad-request", error.detail, remedy, side=Side.CLIENT))

    def content_in(self, octets: bytes, now: float) -> None:
        """Some content arrived."""
        if not self.begun:
            self.start(None)
        exchange = self.exchange
        if not self.awaits_content or exchange is None:  # beyond CONTENT_LENGTH, or of no interest any more
            return
        self.last_read = now
        rest = self.rest
        if rest >= 0:
            if len(octets) > rest:
                octets = octets[:rest]
            self.rest = rest - len(octets)
        exchange.content(octets)
        if self.rest == 0 and self.exchange is not None:
            self._content_end()

    def content_in_end(self) -> None:
        """No more content will come."""
        self.input_ended = True
        if not self.begun:
            self.start(0)
        elif self.awaits_content and self.exchange is not None:
            if self.rest > 0:
                self.exchange.failed(
                    GatewayError(
                        400, "bad-request", f"the content ended {self.rest} octets before CONTENT_LENGTH",
                        "see why the web server sent less than it had told", side=Side.CLIENT,
                    )
                )  # fmt: skip
            else:
                self._content_end()

    def _content_end(self) -> None:
        assert self.exchange is not None
        self.awaits_content = False
        self.wanted = True  # whatever comes now is no content, but tells that the client has left
        self.carrier.regulate()
        self.exchange.content_end()

    def lost(self) -> None:
        """Nobody wants the answer."""
        exchange, self.exchange = self.exchange, None
        if self.pieces is not None:
            self.pieces.close()
        if exchange is not None:
            exchange.client_lost()

    def room(self, room: bool) -> None:
        """Whether the web server takes more of the response."""
        if self.exchange is not None:
            self.exchange.client_room(room)

    def stalled(self, write_s: float) -> None:
        """It has taken nothing for too long, and its connection is closed."""
        if self.exchange is not None:
            self.exchange.failed(stalled(write_s))

    # ------------------------------------------------------------------ time

    def expired(self, now: float) -> None:
        """The deadline of the connection has passed: was it ours?"""
        exchange = self.exchange
        if exchange is not None and now >= exchange.deadline:
            exchange.expired()
        elif self.awaits_content and self.wanted and not self.complete:
            read_s = self.site.timeouts.read_s
            if now - self.last_read >= read_s:
                error = GatewayError(
                    408, "content-timeout", f"no request content came for {read_s:g} s",
                    "a slow client; server.timeouts.read bounds it", side=Side.CLIENT,
                )  # fmt: skip
                if exchange is not None:
                    exchange.failed(error)
                else:
                    self.refuse(error)

    def due(self) -> float:
        """When to look at this request again."""
        deadline = self.exchange.deadline if self.exchange is not None else math.inf
        if self.awaits_content and self.wanted and not self.complete:
            deadline = min(deadline, self.last_read + self.site.timeouts.read_s)
        return deadline

    def _wait(self) -> None:
        self.deadline = self.last_read + self.site.timeouts.read_s

    # ------------------------------------------------------------------ for the exchange (Client)

    @property
    def deadline(self) -> float:
        """That of the connection: no later than any of its requests needs it."""
        return self.carrier.deadline

    @deadline.setter
    def deadline(self, deadline: float) -> None:
        if deadline < self.carrier.deadline:
            self.carrier.deadline = deadline

    def interim(self, response: Response) -> None:
        """CGI has no interim responses."""

    def respond(self, response: Response) -> None:
        self.carrier.output(self, self.writer.head(response))

    def content(self, octets: Outgoing) -> None:
        if not self.writer.count(len(octets)) or not len(octets):
            if isinstance(octets, FileSlice):
                octets.close()
        elif self.pieces is None and (type(octets) is bytes or self.carrier.sends_files):
            self.carrier.output(self, octets)
        else:
            if self.pieces is None:
                self.pieces = Pieces()
            self.pieces.add(octets)
            self.pump()

    def pump(self) -> None:
        """Read on in a file as long as the web server takes it, and then end what is complete."""
        carrier, pieces = self.carrier, self.pieces
        if not pieces:
            return
        sent = 0
        try:
            while pieces and sent < WINDOW and not carrier.clogged:
                octets = pieces.next()
                sent += len(octets)
                carrier.output(self, octets)
        except (EOFError, OSError) as error:
            pieces.close()
            what = f"a file can't be sent: {error}"
            if self.exchange is not None:
                self.exchange.failed(GatewayError(500, "file", what, side=Side.GATEWAY))
            else:
                self.site.error_log.log("error", f"a response was cut: {what}")
                carrier.break_off(self)
            return
        if pieces:
            carrier.pump_later()
        elif self.complete:
            carrier.ended(self)

    def finished(self, trailers: FieldLines) -> None:
        self.writer.end()
        self.exchange = None
        self.complete = True
        if not self.pieces:
            self.carrier.ended(self)

    def tunnel(self, response: Response) -> bytes:
        raise GatewayError(
            501, "no-tunnel", "an upgraded connection (WebSocket) can't pass through CGI, FastCGI or SCGI",
            'reach the application by interface = "http"', side=Side.CLIENT,
        )  # fmt: skip

    def close_after(self) -> None:
        """Nothing to do: the framing between us does not depend on that of the client."""

    def cut(self) -> None:
        self.exchange = None
        if self.pieces is not None:
            self.pieces.close()
        self.carrier.break_off(self)

    def read_content(self, wanted: bool) -> None:
        if wanted is self.wanted:
            return
        self.wanted = wanted
        if wanted:
            self.last_read = self.site.turn.now
            self._wait()
        self.carrier.regulate()


def stalled(write_s: float) -> GatewayError:
    """The web server does not read."""
    what = f"the web server took nothing of a response for {write_s:g} s"
    return GatewayError(408, "write-timeout", what, "server.timeouts.write bounds it", side=Side.CLIENT)


def plain_address(name: str) -> str:
    """An IP address in its usual form, without a zone, and as IPv4 where a listener for both has mapped it;
    what is none stays as it is, and equals no peer."""
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return name
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def may_connect(site: Site, peer: Peer, allowed: Collection[str]) -> bool:
    """Whether a web server is one of those allowed (FastCGI 3.2); whoever is not is told of in the log.

    Who may connect to a unix socket is told by its mode, although the standard would let nobody in.
    """
    name = peer.remote_addr.decode()
    if not allowed or not name or name in allowed or plain_address(name) in {plain_address(one) for one in allowed}:
        return True
    site.report_client(
        peer,
        GatewayError(
            403, "web-server", "it is none of the web servers that may connect: its connection was closed",
            "add its address to FCGI_WEB_SERVER_ADDRS (allowedServers, in a program), or leave that empty",
            side=Side.CLIENT,
        ),
    )  # fmt: skip
    return False


_NO_REQUEST: Final = Request(b"", b"", ())
_NO_WRITER: Final = ScriptResponseWriter(b"GET")
