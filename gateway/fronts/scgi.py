"""The SCGI front: a web server's connection to us, when we are the application; one request on each.

Promise: the end of the connection is the end of a response that is complete, and a reset that of any other;
what is no SCGI request is answered with why, and never read for ever (SEMANTICS 46 to 48).
Must never know: routes, interfaces, applications. Next: `gateway/requested.py`, the request on it.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from gateway.ends import OPEN, Close, End, FileSlice, Outgoing, SocketName
from gateway.errors import GatewayError, Side
from gateway.requested import CgiRequest, may_connect, stalled
from protocols.cgi_application import variables_of
from protocols.message import Content, Peer, RemoteProtocolError
from protocols.scgi import Begin, RequestReader

if TYPE_CHECKING:
    from gateway.site import Site

FRESH_S: Final = 1.0
"""How long a new connection may wait with its request where others wait for their turn."""
REFUSING: Final = 256
"""So many connections above the limit are kept until their request can be told why."""


class ScgiFront(End):
    """One connection from a web server."""

    __slots__ = (
        "allowed", "peer", "reader", "refusal", "request", "sends_files", "since", "site", "stalled_since", "started",
    )  # fmt: skip

    def __init__(self, site: Site, *, allowed: Collection[str] = ()) -> None:
        """`allowed`: the addresses that may connect, empty for any."""
        super().__init__(site.turn)
        self.allowed = allowed
        self.site = site
        self.reader = RequestReader()
        self.request: CgiRequest | None = None
        self.peer: Peer = site.unknown_peer
        """The web server."""
        self.sends_files = True
        self.since = 0.0
        self.stalled_since = 0.0
        self.started = False
        self.refusal: GatewayError | None = None

    # ------------------------------------------------------------------ from the driver

    def accepted(self, remote: SocketName, local: SocketName, now: float) -> None:
        site = self.site
        self.since = now
        self.deadline = now + site.timeouts.header_s
        self.peer = Peer(remote[0].encode(), b"%d" % remote[1], local[0].encode(), b"%d" % local[1], https=False)
        if not may_connect(site, self.peer, self.allowed):
            self.close(Close.ABORT)
        elif not site.admit(self):
            self.refusal = GatewayError(
                503, "connection-limit", f"more than {site.limits.connections} connections",
                "raise server.limits.connections", side=Side.GATEWAY, retry_after_s=1,
            )  # fmt: skip
            if len(site.fronts) > site.limits.connections + REFUSING:
                self.close(Close.ABORT)

    def received(self, octets: bytes, now: float) -> None:
        if self.closing is not OPEN:
            return
        self.started = True
        try:
            events = self.reader.receive(octets)
        except RemoteProtocolError as error:
            remedy = "see whether it is SCGI that the web server speaks to this address"
            self._refuse(GatewayError(error.status, "bad-request", error.detail, remedy, side=Side.CLIENT))
            return
        for event in events:
            request = self.request
            if type(event) is Begin:
                self._begin(event)
            elif request is None:
                return
            elif type(event) is Content:
                request.content_in(event.data, now)
            else:
                request.content_in_end()

    def received_eof(self, now: float) -> None:
        """The web server has closed: its client has left. None half-closes, since workers take it for that
        (lighttpd#2743)."""
        self._lost()
        self.close(Close.FLUSH)

    def unsent(self, length: int, now: float) -> None:
        was = self.held
        self.held = length
        if length:
            self.stalled_since = now
            self.deadline = min(self.deadline, now + self.site.timeouts.write_s)
        if self.request is not None and bool(was) is not bool(length):
            self.request.room(not length)

    def expired(self, now: float) -> None:
        """Find out whose patience is at its end; `deadline` may be older than the newest reason."""
        timeouts = self.site.timeouts
        request = self.request
        if self.held and now - self.stalled_since >= timeouts.write_s:
            self.close(Close.ABORT)
            if request is not None:
                request.stalled(timeouts.write_s)
            else:
                self.site.report_client(self.peer, stalled(timeouts.write_s))
        elif self.closing is not OPEN:
            self.close(Close.ABORT)
        elif request is None:
            if self.started:
                what = f"the meta-variables were not complete after {timeouts.header_s:g} s"
                self._refuse(GatewayError(408, "header-timeout", what, "a slow web server", side=Side.CLIENT))
            else:
                self._end(Close.FLUSH)
        else:
            request.expired(now)
            if self.closing is OPEN:
                self.deadline = min(request.due(), self.stalled_since + timeouts.write_s if self.held else math.inf)

    def drain(self) -> None:
        """The server ends: close if nothing of a request is here or just about to be."""
        self.make_room(self.turn.now)

    def make_room(self, now: float) -> None:
        """Others wait for the engine that this connection holds, or it ends: close if it takes its time."""
        if not self.started and self.closing is OPEN and now - self.since > FRESH_S:
            self._end(Close.FLUSH)

    def lost(self, error: OSError | None, now: float) -> None:
        self._lost()
        for piece in self.out:
            if isinstance(piece, FileSlice):
                piece.close()
        self.out.clear()
        self.site.leave(self)

    # ------------------------------------------------------------------ the request

    def _begin(self, begin: Begin) -> None:
        self.deadline = math.inf
        request = self.request = CgiRequest(self.site, self, variables_of(begin.pairs))
        if self.refusal is not None:
            request.refuse(self.refusal)
        else:
            request.start(begin.content_length)

    def _refuse(self, error: GatewayError) -> None:
        """Answer what cannot be read."""
        self.request = CgiRequest(self.site, self, {})
        self.request.refuse(error)

    def _lost(self) -> None:
        request, self.request = self.request, None
        if request is not None:
            request.lost()

    def _end(self, how: Close) -> None:
        self.deadline = self.turn.now + self.site.timeouts.write_s
        self.close(how)

    # ------------------------------------------------------------------ for the request (Carrier)

    @property
    def clogged(self) -> bool:
        return self.held > 0

    def output(self, request: CgiRequest, octets: Outgoing) -> None:
        self.send(octets)

    def pump_later(self) -> None:
        """Files go out by themselves."""

    def ended(self, request: CgiRequest) -> None:
        self.request = None
        # with content unread, closing would reset the connection behind the response (RFC 1122 4.2.2.13)
        self._end(Close.FLUSH if request.input_ended else Close.LINGER)

    def break_off(self, request: CgiRequest) -> None:
        """Only a reset tells: an end of file would be that of the response (47)."""
        self.request = None
        self._end(Close.ABORT)

    def regulate(self) -> None:
        wanted = self.request is None or self.request.wanted
        if wanted is not self.wants_data:
            self.wants_data = wanted
            self.touch()
