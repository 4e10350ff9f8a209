"""The streams of the event driver: an end's octets in and out of a transport, a pipe, a file.

Promise: the contract of `gateway/ends.py` for each kind of stream; back-pressure both ways.
Must never know: HTTP, routes, workers. Next: `event.py`, the driver that settles the turn.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Any

from gateway.drivers.poller import READABLE, WRITABLE
from gateway.ends import OPEN, Close, End, FileSlice, Outgoing, SocketName

if TYPE_CHECKING:
    from gateway.drivers.event import EventDriver

HIGH_WATER = 64 * 1024
JOIN_BYTES = 16 * 1024
"""Content up to this is copied behind its head, to be one write."""
READ_BYTES = 64 * 1024
LINGER_S = 2.0
"""How long octets are read and dropped after a refusal, so that the client can read our answer."""
SENDFILE_BYTES = 1 << 20
_RESET = struct.pack("ii", 1, 0)


def _name(transport: Any, which: str) -> SocketName:
    name = transport.get_extra_info(which)
    return (name[0], name[1]) if isinstance(name, tuple) else ("", 0)


class StreamWire(asyncio.Protocol):
    """A socket that lives long: the loop's own transport moves its octets."""

    __slots__ = ("blocked", "driver", "end", "reading", "slices", "transport", "_half")

    def __init__(self, driver: EventDriver, end: End) -> None:
        self.driver = driver
        self.end = end
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
        if self.end.wire is self:
            self.end.wire = None
            now = driver.turn.now = driver.loop.time()
            driver.tell(self.end, self.end.lost, error if isinstance(error, OSError) else None, now)
            driver.settle()

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
        if len(pieces) == 1 or sum(map(len, pieces)) > READ_BYTES:
            transport.writelines(pieces)
        else:
            transport.write(b"".join(pieces))

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

    __slots__ = ("descriptor", "driver", "end", "is_socket", "pending", "reads", "watched")

    def __init__(
        self,
        driver: EventDriver,
        end: End,
        descriptor: int,
        *,
        reads: bool,
        is_socket: bool = False,
    ) -> None:
        self.driver = driver
        self.end = end
        self.descriptor = descriptor
        self.reads = reads
        self.is_socket = is_socket
        self.watched = 0
        self.pending: list[memoryview] = []
        driver.wires.add(self)
        end.wire = self

    def _ready(self, events: int) -> None:
        """Called by the poller: it can be read or written, or the other side is gone."""
        driver = self.driver
        driver.turn.now = driver.loop.time()
        if self.watched & READABLE and events & ~WRITABLE:
            self._read()
        if self.watched & WRITABLE and events & ~READABLE:
            self.end.touch()
        driver.settle()

    def _read(self) -> None:
        driver, end = self.driver, self.end
        try:
            octets = os.read(self.descriptor, READ_BYTES)
            if octets:
                driver.tell(end, end.received, octets, driver.turn.now)
                # a worker that closes after its answer mostly has done so by now
                if not self.is_socket or len(octets) == READ_BYTES or self.descriptor < 0 or not end.wants_data:
                    return
                octets = os.read(self.descriptor, READ_BYTES)
                if octets:
                    driver.tell(end, end.received, octets, driver.turn.now)
                    return
        except BlockingIOError:
            return
        except OSError as error:
            self.gone(error)
            return
        self.reads = False
        driver.tell(end, end.received_eof, driver.turn.now)
        end.touch()

    def _watch(self) -> None:
        """Have the poller watch for what is wanted now."""
        if self.descriptor < 0:
            return
        wanted = (READABLE if self.reads and self.end.wants_data else 0) | (WRITABLE if self.pending else 0)
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
        else:
            if end.closing is not OPEN:
                self.gone(None)
                return
            if end.held or end.wants_room:
                end.wants_room = False
                driver.tell(end, end.unsent, 0, driver.turn.now)
        self._watch()

    def _write(self) -> bool:
        """Write what the end has ready, and what was left before; False if the stream is gone."""
        out, pending = self.end.outgoing(), self.pending
        try:
            if len(out) == 1 and not pending:
                piece = out[0]
                assert type(piece) is bytes
                written = os.write(self.descriptor, piece)
                if written == len(piece):
                    return True
                pending.append(memoryview(piece)[written:])
                return True
            pending += [memoryview(piece) for piece in out if type(piece) is bytes]
            while pending:
                written = os.writev(self.descriptor, pending[:64])
                while pending and written >= len(pending[0]):
                    written -= len(pending.pop(0))
                if written:
                    pending[0] = pending[0][written:]
        except BlockingIOError:
            if not pending:
                pending += [memoryview(piece) for piece in out if type(piece) is bytes]
        except OSError as error:
            if self.is_socket and self.reads and error.errno in (errno.EPIPE, errno.ECONNRESET):
                # the peer may have answered before it stopped reading: what it said must be read
                pending.clear()
                return True
            self.gone(error)
            return False
        return True

    def gone(self, error: OSError | None) -> None:
        """Close it and tell the end."""
        if self.descriptor < 0:
            return
        driver = self.driver
        if self.watched:
            driver.poller.forget(self.descriptor)
            self.watched = 0
        os.close(self.descriptor)
        self.descriptor = -1
        self.pending.clear()
        driver.wires.discard(self)
        self.end.wire = None
        driver.tell(self.end, self.end.lost, error, driver.turn.now)
        driver.settle()

    def abort(self) -> None:
        self.gone(None)
