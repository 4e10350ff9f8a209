"""A connection to a worker that carries one exchange at a time.

Promise: whatever happens to the stream, the exchange is told exactly once, with the cause and
whether another try is safe; the pool is told last.
Must never know: the wire format (the interfaces subclass it). Next: `pool.py`.
"""

from __future__ import annotations

import errno
import math
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from gateway.ends import OPEN, Close, End
from gateway.errors import GatewayError, Retry
from gateway.upstreams import health

if TYPE_CHECKING:
    from gateway.upstreams.pool import Member, Pool

FLUSH_S: Final = 5.0
"""How long a worker has to take what is left when its connection is closed: of content that it did not want."""
_REMEDIES: Final = {
    errno.ECONNREFUSED: "nobody listens there: start the worker, or correct the address",
    errno.ENOENT: "the socket does not exist: start the worker, or correct the address",
    errno.EACCES: "the gateway's user may not use the socket: see its mode and owner",
    errno.EAGAIN: "the worker's backlog is full: add workers, or raise its backlog",
    errno.EMFILE: "too many open files: raise the limit (ulimit -n)",
}


class Carried(Protocol):
    """What a connection tells its exchange."""

    call: Any
    stale: bool
    """Whether a kept connection was found dead under it: the next one must be a new one."""
    avoid: tuple[Any, ...]
    """Members at which it has failed."""
    deadline: float
    late: str
    """What is late after `deadline`."""

    def pump(self) -> None: ...
    def failed(self, error: GatewayError) -> None: ...


Exchanged = TypeVar("Exchanged", bound="Carried")


def broken_off(upstream: str, error: OSError | None = None) -> GatewayError:
    """The error for a worker that went away in the middle."""
    why = f": {error.strerror}" if error is not None and error.strerror else ""
    return GatewayError(
        502, "worker-died", f"{upstream} closed the connection before its response was complete{why}",
        "see the worker's own log", retry=Retry.IF_IDEMPOTENT,
    )  # fmt: skip


def not_connected(upstream: str, error: OSError | None) -> GatewayError:
    """The error for a worker to which no connection could be made."""
    code = (error.errno if error is not None else None) or 0
    why = (error.strerror if error is not None else None) or str(error or "gave up")
    return GatewayError(
        503, "connect-refused", f"cannot connect to {upstream}: {why}",
        _REMEDIES.get(code, "see whether the worker runs and the address is right"),
        retry=Retry.SAFE, retry_after_s=5,
    )  # fmt: skip


def too_late(pool: Pool, upstream: str) -> GatewayError:
    """The error for a worker that did not accept in time."""
    return GatewayError(
        504, "connect-timeout", f"{upstream} did not accept a connection in {pool.connect_s:g} s",
        "see whether the worker is overloaded or its host is down; timeouts.connect bounds it",
        retry=Retry.SAFE if len(pool.members) > 1 else Retry.NO,  # the same one would be as late again
    )  # fmt: skip


def blame(pool: Pool, member: Member, exchange: Carried, error: GatewayError) -> None:
    """The next attempt is to be made elsewhere; where all have been late already, there is none."""
    if member not in exchange.avoid:
        exchange.avoid += (member,)
    if error.cause == "connect-timeout" and not pool.another(exchange.avoid):
        error.retry = Retry.NO


class Connection(End, Generic[Exchanged]):
    """An end towards a worker, kept by a pool."""

    __slots__ = ("busy", "due", "exchange", "mark", "member", "open", "pool", "proven", "since", "used")

    exchange: Exchanged | None

    def __init__(self, pool: Pool, member: Member) -> None:
        super().__init__(pool.turn)
        self.pool = pool
        self.member = member
        self.exchange = None
        self.busy = True
        self.open = False
        self.proven = False
        self.since = 0.0
        """When its present request began, on the driver's clock."""
        self.used = 0
        """How many requests it has carried, the present one included."""
        self.mark = 0
        """`writes` when its present request began."""
        self.due = 0.0
        """When the answer should have come that nobody wants any more, and for which the worker is waited for; else 0."""

    # ------------------------------------------------------------------ for the exchange (Call)

    @property
    def upstream(self) -> str:
        return self.member.name

    @property
    def full(self) -> bool:
        return self.held > 0 or not self.open or bool(self.out)

    def room(self) -> None:
        self.wants_room = True
        self.touch()

    def read(self, wanted: bool) -> None:
        if self.wants_data is not wanted:
            self.wants_data = wanted
            self.touch()

    def abort(self, *, client_left: bool = False) -> None:
        """The exchange wants nothing more: what is half said on this stream can't be taken back."""
        exchange, self.exchange = self.exchange, None
        if exchange is None or not self.pool.given_up(self, exchange, answered=self.proven):
            self.close(Close.ABORT)
        else:
            self.read(True)

    def close(self, how: Close) -> None:
        """As of any end; but what a worker does not take of what is left to be said is not kept for ever."""
        if how is Close.FLUSH and self.closing is OPEN:
            self.deadline = self.turn.now + FLUSH_S
        super().close(how)

    # ------------------------------------------------------------------ from the driver

    def connected(self, now: float) -> None:
        self.open = True
        if self.exchange is not None:
            self.deadline = math.inf
        elif self.closing is OPEN:  # it was opened ahead of need
            self.deadline = now + self.pool.idle_s

    def unsent(self, length: int, now: float) -> None:
        self.held = length
        if not length and self.exchange is not None:
            self.exchange.pump()

    def expired(self, now: float) -> None:
        """Connecting took too long, nobody used it for a while, or it can't even be closed."""
        if self.closing is not OPEN:
            self.close(Close.ABORT)
            return
        if self.exchange is None:
            if self.busy:
                self.pool.still_busy(self)
            else:
                self.pool.retire(self)
            return
        self.pool.struck(self.member)
        error = too_late(self.pool, self.upstream)
        blame(self.pool, self.member, self.exchange, error)
        self.fail(error)

    def received_eof(self, now: float) -> None:
        if self.exchange is None:
            self.pool.retire(self)
        else:
            self.ended()

    def ended(self) -> None:
        """The worker closed its side in the middle of an exchange."""
        error = self.broken_off()
        if self.exchange is not None:
            self._died(self.exchange, error)
        self.fail(error)

    def lost(self, error: OSError | None, now: float) -> None:
        exchange, self.exchange = self.exchange, None
        opened, self.open = self.open, False
        failure: GatewayError | None = None
        if not opened and error is not None:
            self.pool.struck(self.member)
        if exchange is not None:
            failure = self.broken_off(error) if opened else not_connected(self.upstream, error)
            if opened:
                self._died(exchange, failure)
            else:
                exchange.stale = False
                blame(self.pool, self.member, exchange, failure)
        self.pool.gone(self)
        if exchange is not None and failure is not None:
            exchange.call = None
            exchange.failed(failure)

    def _died(self, exchange: Carried, failure: GatewayError) -> None:
        """That of a kept connection that was dead already says nothing of the worker."""
        exchange.stale = self.used > 1 and failure.retry is not Retry.NO
        if not exchange.stale:
            self.pool.struck(self.member)
            blame(self.pool, self.member, exchange, failure)

    # ------------------------------------------------------------------ for the interfaces

    def broken_off(self, error: OSError | None = None) -> GatewayError:
        """The error for a worker that went away in the middle."""
        failure = self.pool.hung(self)
        if failure is not None:
            return failure
        failure = broken_off(self.upstream, error)
        if self.writes == self.mark:  # not one octet of the request was taken
            failure.retry = Retry.SAFE
        return failure

    def fail(self, error: GatewayError) -> None:
        """End the stream and tell the exchange."""
        exchange, self.exchange = self.exchange, None
        if error.cause == "bad-response":
            self.pool.struck(self.member)
        self.close(Close.ABORT)
        if exchange is not None:
            exchange.call = None
            exchange.failed(error)

    def finish(self, *, keep: bool) -> None:
        """The exchange has ended well: hand the connection back. The last call of an input."""
        self.exchange = None
        if self.member.strikes:
            health.well(self.member)
        self.pool.release(self, keep=keep)
