"""The streams of the event driver: an end's octets in and out of a transport, a pipe, a file.

Promise: the contract of `gateway/ends.py` for each kind of stream; back-pressure both ways.
Must never know: HTTP, routes, workers. Next: `event.py`, the driver that settles the turn.
"""

from __future__ import annotations

import _socket
import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Any, Final

from gateway.drivers.poller import CLOSED, HUNG_UP, READABLE, WRITABLE
from gateway.ends import OPEN, Close, End, FileSlice, Outgoing, SocketName

if TYPE_CHECKING:
    from gateway.drivers.event import EventDriver

HIGH_WATER: Final = 64 * 1024
JOIN_BYTES: Final = 16 * 1024
"""Content up to this is copied behind its head, to be one write."""
READ_BYTES: Final = 64 * 1024
LINGER_S: Final = 2.0
"""How long octets are read and dropped after a refusal, so that the client can read our answer."""
SENDFILE_BYTES: Final = 1 << 20
_RESET: Final = struct.pack("ii", 1, 0)
_ANSWERED: Final = (errno.EPIPE, errno.ECONNRESET)
"""What a write meets where the peer has closed: without its end of file (ECONNRESET), or after it (EPIPE; for a
unix socket in either case, and reading tells which)."""


def _name(transport: Any, which: str) -> SocketName:
    name = transport.get_extra_info(which)
    return (name[0], name[1]) if isinstance(name, tuple) else ("", 0)


class StreamWire:
    """A socket that lives long: the loop's own transport moves its octets (an asyncio.Protocol in all but its base,
    for which the compiler would make it slower)."""

    __slots__ = ("blocked", "driver", "end", "opened", "reading", "slices", "transport", "_half")

    def __init__(self, driver: EventDriver, end: End, *, opened: bool = False) -> None:
        self.driver = driver
        self.end = end
        self.opened = opened
        """Whether it leads to a worker, by an order; else a client opened it."""
        self.transport: Any = None
        self.reading = True
        self.blocked = False
        self.slices: FileSender | None = None
        self._half = False

    def connection_made(self, transport: Any) -> None:
        driver, end = self.driver, self.end
        self.transport = transport
        driver.wires.add(self)
        end.wire = self
        driver.made(self, _name(transport, "peername"), _name(transport, "sockname"))

    def data_received(self, data: bytes) -> None:
        driver = self.driver
        end = self.end
        now = driver.turn.now = driver.loop.time()
        if self._half:  # lingering: read and dropped
            return
        try:
            end.received(data, now)
        except Exception as error:
            driver.guard(end, error)
        driver.settle()

    def eof_received(self) -> bool:
        driver = self.driver
        now = driver.turn.now = driver.loop.time()
        if self._half:
            return False
        driver.tell(self.end, self.end.received_eof, now)
        driver.settle()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        driver = self.driver
        driver.wires.discard(self)
        if self.slices is not None:
            self.slices.drop()
        end = self.end
        if end.wire is self:
            now = driver.turn.now = driver.loop.time()
            reason = error if isinstance(error, OSError) else None
            if reason is None or not self.opened or end.closing is not OPEN or not self._read_on(reason):
                end.wire = None
                driver.tell(end, end.lost, reason, now)
            driver.settle()

    def _read_on(self, error: OSError) -> bool:
        """What broke may be our writing only: a worker that answers early and closes resets the connection
        behind its answer (SEMANTICS 63), and a loop that writes first tells us before it has read that."""
        theirs = self.transport.get_extra_info("socket")
        try:
            sock = _socket.socket(theirs.family, theirs.type, theirs.proto, os.dup(theirs.fileno()))
        except OSError:
            return False
        DescriptorWire(self.driver, self.end, sock.fileno(), reads=True, sock=sock, broken=error).read_first()
        return True

    def pause_writing(self) -> None:
        self.blocked = True

    def resume_writing(self) -> None:
        self.blocked = False
        driver = self.driver
        end = self.end
        driver.turn.now = driver.loop.time()
        if self.slices is not None and self.slices.waiting:
            self.slices.start()
        elif end.held:
            driver.tell(end, end.unsent, 0, driver.turn.now)
            end.touch()
        driver.settle()

    def flush(self) -> None:
        """Write what the end has ready and do what it wants."""
        end = self.end
        transport = self.transport
        closing = end.closing
        if closing is not OPEN and closing is Close.ABORT:
            self.abort()
            return
        out = end.out
        if out and self.slices is None:
            out = end.outgoing()
            first, last = out[0], out[-1]
            if type(first) is not bytes or type(last) is not bytes or len(last) > JOIN_BYTES or len(out) > 2:
                self._write(out)
            else:  # mostly a head, or a head and its small content
                transport.write(first if len(out) == 1 else first + last)
        if self.blocked or self.slices is not None:
            if not end.held:
                length = transport.get_write_buffer_size() + (self.slices.piece.length if self.slices is not None else 0)
                self.driver.tell(end, end.unsent, max(length, 1), self.driver.turn.now)
        elif end.wants_room:
            end.wants_room = False
            self.driver.tell(end, end.unsent, 0, self.driver.turn.now)
        if end.wants_data is not self.reading and not self._half:
            self.reading = end.wants_data
            if self.reading:
                transport.resume_reading()
            else:
                transport.pause_reading()
        if end.closing is not OPEN and self.slices is None and not end.out:
            self._close(end.closing)

    def _write(self, out: list[Outgoing]) -> None:
        transport = self.transport
        pieces: list[bytes] = []
        for position, piece in enumerate(out):
            if type(piece) is bytes:
                pieces.append(piece)
                continue
            if pieces:
                transport.write(b"".join(pieces))
            assert isinstance(piece, FileSlice)
            self.end.out[:0] = out[position + 1 :]
            self.slices = FileSender(self, piece)
            self.slices.prepare()
            return
        if len(pieces) > 1 and sum(map(len, pieces)) <= READ_BYTES:
            transport.write(b"".join(pieces))
        elif self.driver.joins:
            transport.writelines(pieces)
        else:
            for octets in pieces:
                transport.write(octets)

    def _close(self, how: Close) -> None:
        if self._half or self.transport.is_closing():
            return
        if how is Close.LINGER and self.transport.can_write_eof():
            self._half = True
            self.transport.write_eof()
            self.end.wants_data = True
            if not self.reading:
                self.reading = True
                self.transport.resume_reading()
            self.driver.loop.call_later(LINGER_S, self.transport.close)
        else:
            self.transport.close()

    def abort(self) -> None:
        """Drop everything; a TCP peer sees a reset, which can't be taken for an orderly end."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX and not self.transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()


class FileSender:
    """One FileSlice on its way into a StreamWire's socket by sendfile."""

    def __init__(self, wire: StreamWire, piece: FileSlice) -> None:
        self.wire = wire
        self.piece = piece
        self.descriptor = -1
        self.waiting = True

    def prepare(self) -> None:
        """Wait until the octets before the slice are out."""
        transport = self.wire.transport
        transport.set_write_buffer_limits(high=0)
        if transport.get_write_buffer_size() == 0:
            self.start()

    def start(self) -> None:
        """The octets before the slice are out: the descriptor is ours for a while."""
        self.waiting = False
        sock = self.wire.transport.get_extra_info("socket")
        # a duplicate, because the loop forbids us to watch the descriptor of its own transport
        self.descriptor = os.dup(sock.fileno())
        self._send()

    def _send(self) -> None:
        piece = self.piece
        loop = self.wire.driver.loop
        try:
            while piece.length:
                sent = os.sendfile(self.descriptor, piece.fd, piece.offset, min(piece.length, SENDFILE_BYTES))
                if not sent:  # the file became shorter: the client must notice
                    self.wire.end.closing = Close.ABORT
                    break
                piece.offset += sent
                piece.length -= sent
        except BlockingIOError:
            loop.add_writer(self.descriptor, self._ready)
            return
        except OSError:
            self.wire.end.closing = Close.ABORT
        self._done()

    def _ready(self) -> None:
        driver, end = self.wire.driver, self.wire.end
        driver.loop.remove_writer(self.descriptor)
        driver.turn.now = driver.loop.time()
        self._send()
        if self.wire.slices is self:  # some of it went out: a slow client, and not one that has stopped
            driver.tell(end, end.unsent, self.piece.length, driver.turn.now)
        driver.settle()

    def _done(self) -> None:
        wire = self.wire
        self.drop()
        wire.transport.set_write_buffer_limits(high=HIGH_WATER)
        end = wire.end
        if end.held:
            wire.driver.tell(end, end.unsent, 0, wire.driver.turn.now)
        end.touch()

    def drop(self) -> None:
        self.wire.slices = None
        if self.descriptor >= 0:
            self.wire.driver.loop.remove_writer(self.descriptor)
            os.close(self.descriptor)
            self.descriptor = -1
        self.piece.close()


class DescriptorWire:
    """A pipe, or a socket that lives for one request: non-blocking reads and writes by ourselves."""

    __slots__ = (
        "begun", "broken", "connecting", "delays", "descriptor", "driver", "end", "hung_up", "pending", "pid", "reads",
        "sock", "watched",
    )  # fmt: skip

    def __init__(
        self,
        driver: EventDriver,
        end: End,
        descriptor: int,
        *,
        reads: bool,
        sock: _socket.socket | None = None,
        connecting: bool = False,
        delays: bool = False,
        broken: OSError | None = None,
        pid: int = 0,
    ) -> None:
        self.driver = driver
        self.end = end
        self.descriptor = descriptor
        self.pid = pid
        """The process whose stdout it is, 0 for none."""
        self.hung_up = False
        """Whether all that the other side ever sends was here when the poller last looked."""
        self.reads = reads
        self.sock = sock
        """The socket whose descriptor it is, None for a pipe."""
        self.connecting = connecting
        """True until the first thing succeeds that only a socket can do that is connected."""
        self.delays = delays
        """Whether small writes may wait for an acknowledgement (Nagle's algorithm). The first never does, and for
        most connections it is the only one: TCP_NODELAY is set before the second."""
        self.begun = False
        self.broken = broken
        """Why nothing more can be written, although there may be something to be read."""
        self.watched = 0
        self.pending: list[memoryview] = []
        driver.wires.add(self)
        end.wire = self

    def _ready(self, events: int) -> None:
        """Called by the poller: it can be read or written, or the other side is gone."""
        driver = self.driver
        driver.turn.now = driver.loop.time()
        if self.connecting and events & ~(READABLE | WRITABLE):
            self._read()  # which tells why it can't be connected
        else:
            if self.connecting:
                self._stands()
            if self.watched & READABLE and events & ~WRITABLE:
                # where it has closed altogether, or with a reset, only reading tells how it ended
                self.hung_up = events & (HUNG_UP | CLOSED) == HUNG_UP
                self._read()
            if self.watched & WRITABLE and events & ~READABLE:
                self.end.touch()
        driver.settle()

    def _stands(self) -> None:
        self.connecting = False
        self.driver.tell(self.end, self.end.connected, self.driver.turn.now)

    def read_first(self) -> None:
        """Read what is here, if it is wanted; whatever is left is waited for once the turn is settled."""
        if self.end.wants_data:
            self._read()
        if self.descriptor >= 0:
            self.end.touch()

    def _read(self) -> None:
        driver, end = self.driver, self.end
        try:
            octets = os.read(self.descriptor, READ_BYTES)
            if self.connecting:
                self._stands()
            if octets:
                driver.tell(end, end.received, octets, driver.turn.now)
                if self.descriptor < 0 or not end.wants_data or len(octets) == READ_BYTES:
                    return
                if not self.hung_up:
                    if self.sock is None:
                        return
                    # a worker that closes after its answer mostly has done so by now
                    octets = os.read(self.descriptor, READ_BYTES)
                    if octets:
                        driver.tell(end, end.received, octets, driver.turn.now)
                        return
        except BlockingIOError:
            return
        except OSError as error:
            self.gone(error)
            return
        broken = self.broken
        if broken is not None and broken.errno != errno.EPIPE:  # a reset is told once, to whoever was first
            self.gone(broken)
            return
        self.reads = False
        driver.tell(end, end.received_eof, driver.turn.now)
        end.touch()
        if self.pid:
            driver.silent(self.pid)

    def _watch(self) -> None:
        """Have the poller watch for what is wanted now."""
        if self.descriptor < 0:
            return
        wanted = READABLE | HUNG_UP if self.reads and self.end.wants_data else 0
        if self.pending or self.connecting:
            wanted |= WRITABLE
        if wanted != self.watched:
            self.watched = wanted
            if wanted:
                self.driver.poller.watch(self.descriptor, wanted, self._ready)
            else:
                self.driver.poller.forget(self.descriptor)

    def flush(self) -> None:
        """Write what the end has ready and do what it wants."""
        end, driver = self.end, self.driver
        if end.closing is not OPEN and end.closing is Close.ABORT:
            self.gone(None)
            return
        if (end.out or self.pending) and not self._write():
            return
        if self.pending:
            if not end.held:
                driver.tell(end, end.unsent, sum(map(len, self.pending)), driver.turn.now)
        elif end.closing is not OPEN:
            self.gone(None)
            return
        elif self.broken is not None:
            if not end.held:  # nobody takes it: no more is to come
                driver.tell(end, end.unsent, 1, driver.turn.now)
        elif (end.held or end.wants_room) and not self.connecting:
            end.wants_room = False
            driver.tell(end, end.unsent, 0, driver.turn.now)
        self._watch()

    def _write(self) -> bool:
        """Write what the end has ready, and what was left before; False if the stream is gone."""
        out, pending = self.end.outgoing(), self.pending
        if self.broken is not None:
            return True
        try:
            if self.delays and self.begun:
                self.delays = False
                assert self.sock is not None
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if len(out) == 1 and not pending:
                piece = out[0]
                assert type(piece) is bytes
                written = os.write(self.descriptor, piece)
                if written < len(piece):
                    pending.append(memoryview(piece)[written:])
            else:
                pending += [memoryview(piece) for piece in out if type(piece) is bytes]
                while pending:
                    written = os.writev(self.descriptor, pending[:64])
                    while pending and written >= len(pending[0]):
                        written -= len(pending.pop(0))
                    if written:
                        pending[0] = pending[0][written:]
        except BlockingIOError:  # a socket that is still connecting says so, too
            if not pending:
                pending += [memoryview(piece) for piece in out if type(piece) is bytes]
            return True
        except OSError as error:
            if self.sock is None or not self.reads or self.connecting or error.errno not in _ANSWERED:
                self.gone(error)
                return False
            # the peer may have answered before it stopped reading: what it said must be read
            self.broken = error
            pending.clear()
            return True
        self.begun = True
        if self.connecting:
            self._stands()
        return True

    def gone(self, error: OSError | None) -> None:
        """Close it and tell the end."""
        if self.descriptor < 0:
            return
        driver = self.driver
        if self.watched:
            driver.poller.forget(self.descriptor, closing=not driver.launching)
            self.watched = 0
        if self.sock is not None:
            self.sock.close()
        else:
            os.close(self.descriptor)
        self.descriptor = -1
        self.pending.clear()
        driver.wires.discard(self)
        self.end.wire = None
        driver.tell(self.end, self.end.lost, error, driver.turn.now)
        driver.settle()

    def abort(self) -> None:
        self.gone(None)
