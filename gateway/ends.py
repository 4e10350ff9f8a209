"""THE WAIST: one byte stream as the rules see it, and the orders that rules may give.

Promise: rules above (fronts, exchange, interfaces) never call a driver and drivers below never
know a rule; they meet in `End`, `Turn` and the orders. The clock is always an argument.
Must never know: sockets, HTTP, processes. Next: `drivers/event.py` below, `exchange.py` above.

The contract of a driver
- It calls `received`, `received_eof`, `unsent`, `connected`, `lost`, `expired`, `resume`, `gathered`; after each
  such call it settles the turn: it performs `turn.orders`, and for every end in `turn.ends` writes
  `end.outgoing()` and obeys `wants_data` and `closing`, until both lists are empty.
- It never enters an end while that end is being entered, and calls nothing after `lost`.
- It calls `expired(now)` some time (at most its sweep interval) after `deadline` has passed.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias

from mypy_extensions import mypyc_attr

WINDOW: Final = 128 * 1024
"""Octets that may wait for one slow reader before its writer is held back."""


class Close(enum.Enum):
    """How an end wants to be closed."""

    NO = "open"
    FLUSH = "flush"  # once everything is written
    LINGER = "linger"  # written, half-closed, read and dropped for a while (RFC 9112 9.6)
    ABORT = "abort"  # now; for a socket, with a reset where that tells the peer more


OPEN: Final = Close.NO  # a global is looked up faster than a member on its class


class FileSlice:
    """Part of an open file as outgoing octets: the driver uses sendfile where it can.

    The driver calls `close()` when it has sent it or dropped it.
    """

    __slots__ = ("fd", "length", "offset", "_close")

    def __init__(self, fd: int, offset: int, length: int, close: Callable[[], None]) -> None:
        self.fd = fd
        self.offset = offset
        self.length = length
        self._close = close

    def __len__(self) -> int:
        return self.length

    def close(self) -> None:
        self._close()


Outgoing: TypeAlias = bytes | FileSlice


SocketName: TypeAlias = tuple[str, int]


@mypyc_attr(allow_interpreted_subclasses=True)
class Wire:
    """What a driver attaches to an end."""

    __slots__ = ()

    def flush(self) -> None:
        """Write what the end has ready and do what it wants."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class End:
    """One byte stream. The rules subclass it; a driver attaches itself in `wire`."""

    __slots__ = ("turn", "wire", "wants_data", "wants_room", "deadline", "closing", "out", "touched", "held", "writes")

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.wire: Wire | None = None
        self.wants_data = True
        """False: the driver stops reading (back-pressure inwards)."""
        self.wants_room = False
        """True: call `unsent(0)` once what was handed over is written or nearly so; reset by the driver."""
        self.deadline = math.inf
        """Point of the driver's clock, seconds, after which `expired` is called; inf for none."""
        self.closing = OPEN
        self.out: list[Outgoing] = []
        self.touched = False
        self.held = 0
        """Octets that the driver could not write yet, as it last said, if above its high-water mark."""
        self.writes = 0
        """How often the stream has taken something."""

    def touch(self) -> None:
        """Note that the driver has to look at this end when the turn is settled."""
        if not self.touched:
            self.touched = True
            self.turn.ends.append(self)

    def send(self, octets: Outgoing) -> None:
        self.out.append(octets)
        if not self.touched:
            self.touched = True
            self.turn.ends.append(self)

    def close(self, how: Close) -> None:
        self.closing = how
        self.touch()

    def outgoing(self) -> list[Outgoing]:
        """Hand over what is ready to be written, in order."""
        out = self.out
        self.out = []
        return out

    # what a driver tells, in the order of a stream's life

    def connected(self, now: float) -> None:
        """The stream that an Open ordered exists."""

    def accepted(self, remote: SocketName, local: SocketName, now: float) -> None:
        """A client's connection exists; ("", 0) stands for a name that a unix socket has not."""

    def received(self, octets: bytes, now: float) -> None:
        """Octets came in; never empty."""

    def received_eof(self, now: float) -> None:
        """The peer will send nothing more; we may still write."""

    def unsent(self, length: int, now: float) -> None:
        """The driver holds `length` octets: above its high-water mark, or 0 when drained below it.

        Told again when some of them went out, where the driver learns of it before the mark is reached.
        """
        self.held = length

    def resume(self, now: float) -> None:
        """Answer to the order Resume."""

    def gathered(self, now: float) -> None:
        """Answer to the order Gather."""

    def expired(self, now: float) -> None:
        """`deadline` has passed."""

    def lost(self, error: OSError | None, now: float) -> None:
        """The stream is gone (or never came: `error` says why). Nothing is called after this."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a worker listens: host and port, or the path of a unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""
    service: bool = False
    """Whether `host` is the name of an SRV record, which tells hosts and ports; a driver gets none of these."""

    def __str__(self) -> str:
        if self.service:
            return f"srv:{self.host}"
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Open:
    """Connect to `address` and attach the stream to `end`; then `connected` or `lost`.

    `brief`: the stream lives for one request, so the driver should use what is cheapest to set up.
    `datagram`: each write is one datagram, and so is what is `received`; there is no end of file.
    """

    __slots__ = ("address", "brief", "datagram", "end")

    def __init__(self, address: Address, end: End, brief: bool = False, datagram: bool = False) -> None:
        self.address: Final = address
        self.end: Final = end
        self.brief: Final = brief
        self.datagram: Final = datagram


class Child(Protocol):
    """What a process reports to whoever ordered it."""

    def started(self, pid: int, now: float) -> None: ...
    def failed(self, error: OSError, now: float) -> None:
        """It could not be started; no other call follows."""

    def exited(self, code: int, now: float) -> None:
        """As in subprocess.Popen.returncode: negative for a signal. The streams may outlive it."""


@dataclass(frozen=True, slots=True)
class Launch:
    """All that is needed to start a process; nothing is inherited that is not named here.

    `stdin`: an open descriptor to become descriptor 0 (a listening socket, a spooled file), or
    None for a pipe (if the Spawn order has a stdin end) or else /dev/null.
    """

    path: bytes
    argv: Sequence[bytes]
    environment: dict[bytes, bytes]
    directory: bytes
    stdin: int | None = None
    umask: int | None = None


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a process in a process group of its own; its pipes become the ends given.

    An end that is None: /dev/null on stdin and stdout, on stderr the gateway's own.
    """

    launch: Launch
    child: Child
    stdin: End | None = None
    stdout: End | None = None
    stderr: End | None = None


@dataclass(frozen=True, slots=True)
class Kill:
    """Send `signal` to the whole process group of `pid`."""

    pid: int
    signal: int


class Resume:
    """Call `end.resume(now)` once the current input is dealt with."""

    __slots__ = ("end",)

    def __init__(self, end: End) -> None:
        self.end: Final = end


class Gather:
    """Call `end.gathered(now)` once all input that is here now has been dealt with, of other streams, too.

    So what comes from many clients at the same time can go to a worker in one write. Called whatever has become of the
    stream.
    """

    __slots__ = ("end",)

    def __init__(self, end: End) -> None:
        self.end: Final = end


class Streams(Protocol):
    """The way from code that may wait, such as an application, back to the rules. The driver's."""

    def enter(self, method: Callable[..., None], *arguments: Any) -> None:
        """Call a method of the rules where the rules live, and settle the turn.

        From a thread of its own it returns before that is done; the order of calls is kept.
        """

    def wait(self, ready: Callable[[], bool]) -> None:
        """Return once `ready()` holds; the streams go on meanwhile. Not for a coroutine."""


class Work(Protocol):
    """Code that may wait: a call of a WSGI application. An exception that escapes is a defect."""

    def run(self, streams: Streams) -> None: ...


class AsyncWork(Protocol):
    """A coroutine that the loop of the driver runs: a call of an ASGI application."""

    def run(self, streams: Streams) -> Coroutine[Any, Any, None]: ...


@dataclass(frozen=True, slots=True)
class Run:
    """Have `work.run` called where it may wait: one after the other, or in several threads."""

    work: Work


@dataclass(frozen=True, slots=True)
class RunAsync:
    """Start the coroutine of `work.run` on the driver's event loop; only an event driver has one."""

    work: AsyncWork


Order: TypeAlias = Open | Spawn | Kill | Resume | Gather | Run | RunAsync


@dataclass(slots=True)
class Turn:
    """What the rules have left for the driver to do: shared by all ends of one driver."""

    ends: list[End] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    now: float = 0.0
    """The driver's clock, seconds, at the input that is being dealt with; set by the driver only."""
