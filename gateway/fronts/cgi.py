"""The CGI front: the one request of a process that a web server has started, in its environment and on stdin.

Promise: stdin is read no further than CONTENT_LENGTH says; once the response is out, or cannot get out any
more, `finished` is true and `exit_code` tells which (SEMANTICS 18, 79).
Must never know: descriptors, the environment, applications. Next: `gateway/requested.py`, the request.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gateway.ends import OPEN, Close, End, Outgoing
from gateway.requested import CgiRequest
from protocols.cgi_application import variables_of_environment

if TYPE_CHECKING:
    from gateway.site import Site


class CgiFront:
    """Two streams and a request: attach `stdin` and `stdout` to a driver, then `begin` and settle."""

    def __init__(self, site: Site, environment: Mapping[bytes, bytes]) -> None:
        self.site = site
        self.variables = variables_of_environment(environment)
        self.stdin = Stdin(self)
        self.stdout = Stdout(self)
        self.request = CgiRequest(site, self, self.variables)
        self.sends_files = False  # a pipe is not what a driver sends files into
        self.whole = False
        """Whether all of the response was handed over."""
        self.finished = False
        self.exit_code = 0
        """Not 0 where the response is not whole, so that a web server which looks at it knows."""

    def begin(self) -> None:
        """The streams stand: serve the request."""
        self.site.admit(self)
        if self.variables.get(b"CONTENT_LENGTH"):
            self.request.begin()
        else:  # then there is no content (RFC 3875 4.1.2), and stdin may be anybody's and never end
            self.request.start(0)
        self.regulate()

    # ------------------------------------------------------------------ for the site (Front)

    def drain(self) -> None:
        """The process ends with this request anyway."""

    def make_room(self, now: float) -> None:
        """Nobody waits for this process."""

    # ------------------------------------------------------------------ for the streams

    def closed(self, error: OSError | None) -> None:
        """stdout is gone, written to its end or not."""
        self.request.lost()
        self.exit_code = 0 if self.whole and error is None else 1
        self.finished = True
        self.site.leave(self)

    # ------------------------------------------------------------------ for the request (Carrier)

    @property
    def deadline(self) -> float:
        return self.stdout.deadline

    @deadline.setter
    def deadline(self, deadline: float) -> None:
        self.stdout.deadline = deadline

    @property
    def clogged(self) -> bool:
        return self.stdout.held > 0

    def output(self, request: CgiRequest, octets: Outgoing) -> None:
        self.stdout.send(octets)

    def pump_later(self) -> None:
        self.stdout.wants_room = True
        self.stdout.touch()

    def ended(self, request: CgiRequest) -> None:
        self.whole = True
        self._end(Close.FLUSH)

    def break_off(self, request: CgiRequest) -> None:
        self._end(Close.ABORT)

    def _end(self, how: Close) -> None:
        self.stdout.deadline = self.site.turn.now + self.site.timeouts.write_s
        self.stdout.close(how)
        self.stdin.wants_data = False
        self.stdin.touch()

    def regulate(self) -> None:
        wanted = self.request.awaits_content and self.request.wanted and self.stdout.closing is OPEN
        if wanted is not self.stdin.wants_data:
            self.stdin.wants_data = wanted
            self.stdin.touch()


class Stdin(End):
    """The content of the request, with whatever comes after it."""

    __slots__ = ("front",)

    def __init__(self, front: CgiFront) -> None:
        super().__init__(front.site.turn)
        self.front = front
        self.wants_data = False

    def received(self, octets: bytes, now: float) -> None:
        self.front.request.content_in(octets, now)
        self.front.regulate()

    def received_eof(self, now: float) -> None:
        self.front.request.content_in_end()

    def lost(self, error: OSError | None, now: float) -> None:
        self.front.request.content_in_end()


class Stdout(End):
    """The response."""

    __slots__ = ("front", "stalled_since")

    def __init__(self, front: CgiFront) -> None:
        super().__init__(front.site.turn)
        self.front = front
        self.stalled_since = 0.0

    def unsent(self, length: int, now: float) -> None:
        was = self.held
        self.held = length
        if length:
            self.stalled_since = now
            self.deadline = min(self.deadline, now + self.front.site.timeouts.write_s)
        request = self.front.request
        if bool(was) is not bool(length):
            request.room(not length)
        if not length:
            request.pump()

    def expired(self, now: float) -> None:
        """Find out whose patience is at its end; `deadline` may be older than the newest reason."""
        write_s = self.front.site.timeouts.write_s
        request = self.front.request
        if self.held and now - self.stalled_since >= write_s:
            self.front.whole = False
            self.close(Close.ABORT)
            request.stalled(write_s)
        elif self.closing is not OPEN:
            self.close(Close.ABORT)
        else:
            request.expired(now)
            if self.closing is OPEN:
                self.deadline = min(request.due(), self.stalled_since + write_s if self.held else math.inf)

    def lost(self, error: OSError | None, now: float) -> None:
        self.out.clear()
        self.front.closed(error)
