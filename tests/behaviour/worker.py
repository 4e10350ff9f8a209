"""One application in four guises: `python worker.py cgi | fastcgi PATH | scgi PATH | http PATH`.

What it does is chosen by the path; whoever must wait waits for a file that the test makes.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from protocols import fastcgi, scgi
from protocols.http1 import RequestReader, ResponseWriter, tokeniser
from protocols.message import Content, EndOfMessage, Request, Response

Meta = dict[bytes, bytes]
Read = Callable[[], bytes]
Write = Callable[[bytes], None]


class Leave(Exception):
    """Close the connection, or end the script, without another word."""


def wait_for(path: bytes) -> None:
    while not os.path.exists(path):
        time.sleep(0.005)


def arguments(meta: Meta) -> dict[bytes, bytes]:
    pairs = (pair.partition(b"=") for pair in meta.get(b"QUERY_STRING", b"").split(b"&") if pair)
    return {name: value for name, _, value in pairs}


def handle(meta: Meta, read: Read, write: Write, error: Write) -> None:
    """Answer as a CGI program would: header fields, an empty line, content."""
    args = arguments(meta)
    path = meta.get(b"PATH_INFO", b"")
    plain = b"Content-Type: text/plain\n"
    if path == b"/hello":
        write(plain + b"Content-Length: 5\n\nhello")
    elif path == b"/env":
        names = {k.decode("latin-1"): v.decode("latin-1") for k, v in meta.items()}
        write(b"Content-Type: application/json\n\n" + json.dumps(names).encode())
    elif path == b"/echo":
        write(plain + b"\n")
        while piece := read():
            write(piece)
    elif path == b"/length":
        length = 0
        while piece := read():
            length += len(piece)
        write(plain + b"\n%d" % length)
    elif path == b"/steps":  # a piece, then each next one when its file is there
        write(plain + b"\nstep0\n")
        for number in range(1, int(args[b"n"]) + 1):
            wait_for(args[b"dir"] + b"/go%d" % number)
            write(b"step%d\n" % number)
    elif path == b"/bytes":
        write(plain + b"\n")
        rest = int(args[b"n"])
        piece = bytes(range(256)) * 256
        while rest > 0:
            write(piece[:rest])
            rest -= len(piece)
    elif path == b"/when":
        wait_for(args[b"file"])
        write(plain + b"\nnow")
    elif path == b"/started":  # tell that it runs, then wait
        Path(os.fsdecode(args[b"dir"]), "started").write_text(str(os.getpid()))
        wait_for(args[b"dir"] + b"/go")
        write(plain + b"\nnow")
    elif path == b"/status":
        write(
            b"Status: " + args[b"code"] + b"\n" + plain + b"\n" + (b"" if args[b"code"] in (b"204", b"304") else b"x")
        )
    elif path == b"/early":
        write(plain + b"Content-Length: 5\n\nearly")
    elif path == b"/cookies":
        write(b"Set-Cookie: a=1\nSet-Cookie: b=2\n" + plain + b"\n")
    elif path == b"/die-before":
        raise Leave
    elif path == b"/die-mid":
        write(plain + b"\nsome")
        if b"file" in args:
            wait_for(args[b"file"])
        raise Leave
    elif path == b"/short":
        write(plain + b"Content-Length: 10\n\nshort")
    elif path == b"/long":
        write(plain + b"Content-Length: 4\n\nlonger")
    elif path == b"/bad-header":
        write(b"this is no header\n\n")
    elif path == b"/no-header":
        pass
    elif path == b"/redirect":
        write(b"Location: http://elsewhere.example/\n\n")
    elif path == b"/local":
        write(b"Location: " + meta[b"SCRIPT_NAME"] + b"/hello\n\n")
    elif path == b"/loop":
        write(b"Location: " + meta[b"SCRIPT_NAME"] + b"/loop\n\n")
    elif path == b"/stderr":
        error(b"a line for the log\n")
        write(plain + b"\nlogged")
    elif path == b"/hop":
        write(b"Connection: close\nKeep-Alive: timeout=5\nX-Kept: yes\n" + plain + b"\nhop")
    elif path == b"/head":
        write(plain + b"Content-Length: 5\n\n" + (b"" if meta[b"REQUEST_METHOD"] == b"HEAD" else b"hello"))
    else:
        write(b"Status: 404\n" + plain + b"\nno such test")


def run_cgi() -> None:
    rest = int(os.environ.get("CONTENT_LENGTH") or 0)

    def read() -> bytes:
        nonlocal rest
        piece = os.read(0, min(65536, rest)) if rest else b""
        rest -= len(piece)
        return piece

    def write(octets: bytes) -> None:
        while octets:
            octets = octets[os.write(1, octets) :]

    try:
        handle(dict(os.environb), read, write, lambda octets: os.writev(2, [octets]) and None)
    except Leave:
        os.kill(os.getpid(), signal.SIGKILL)


def serve(path: str, answer: Callable[[socket.socket], None]) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(512)
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=guarded, args=(answer, sock), daemon=True).start()


def guarded(answer: Callable[[socket.socket], None], sock: socket.socket) -> None:
    with sock:
        try:
            answer(sock)
        except (Leave, OSError):
            pass


def answer_scgi(sock: socket.socket) -> None:
    reader = scgi.RequestReader()
    events: list[object] = []

    def event() -> object:
        while not events:
            octets = sock.recv(65536)
            if not octets:
                raise Leave
            events.extend(reader.receive(octets))
        return events.pop(0)

    def read() -> bytes:
        one = event()
        if isinstance(one, Content):
            return one.data
        events.insert(0, one)
        return b""

    begin = event()
    assert isinstance(begin, scgi.Begin)
    handle(dict(begin.pairs), read, sock.sendall, lambda octets: None)


ABORTED = "aborted"
"""A file in the folder of the socket that tells of ABORT_REQUEST."""


def answer_fastcgi(sock: socket.socket) -> None:
    connection = fastcgi.ApplicationConnection(values={b"FCGI_MPXS_CONNS": b"0"})
    events: list[object] = []

    def event() -> object:
        while not events:
            octets = sock.recv(65536)
            if not octets:
                raise Leave
            events.extend(connection.receive(octets))
            flush()
        return events.pop(0)

    def flush() -> None:
        octets = b"".join(connection.outgoing())
        if octets:
            sock.sendall(octets)

    while True:
        begin = event()
        if not isinstance(begin, fastcgi.Begin):
            continue  # the rest of a request that was answered early
        request_id = begin.request_id

        def read() -> bytes:
            one = event()
            if isinstance(one, fastcgi.Stdin):
                return one.octets
            if isinstance(one, fastcgi.Abort):
                raise InterruptedError
            return b""

        def write(octets: bytes, request_id: int = request_id) -> None:
            connection.stdout(request_id, octets)
            flush()

        def error(octets: bytes, request_id: int = request_id) -> None:
            connection.stderr(request_id, octets)
            flush()

        try:
            meta = dict(begin.params)
            if meta.get(b"PATH_INFO") == b"/abort":  # waits to be aborted
                Path(os.fsdecode(arguments(meta)[b"dir"]), "started").touch()
                while True:
                    if isinstance(event(), fastcgi.Abort):
                        Path(os.fsdecode(arguments(meta)[b"dir"]), ABORTED).touch()
                        raise InterruptedError
            handle(meta, read, write, error)
        except InterruptedError:
            pass
        connection.end(request_id)
        flush()
        if connection.finished:
            return


def answer_http(sock: socket.socket) -> None:
    reader = RequestReader(tokeniser())
    events: list[object] = []

    def event() -> object:
        while not events:
            octets = sock.recv(65536)
            if not octets:
                raise Leave
            events.extend(reader.receive(octets))
        return events.pop(0)

    while True:
        request = event()
        if isinstance(request, Content | EndOfMessage):
            continue
        assert isinstance(request, Request)
        writer = ResponseWriter(request.method, request.version, request.keep_alive)
        trailers: list[tuple[bytes, bytes]] = []

        def read(trailers: list[tuple[bytes, bytes]] = trailers) -> bytes:
            one = event()
            if isinstance(one, Content):
                return one.data
            assert isinstance(one, EndOfMessage)
            trailers.extend(one.trailers)
            return b""

        path, _, query = request.target.partition(b"?")
        meta = {b"HTTP_" + n.upper().replace(b"-", b"_"): v for n, v in request.fields}
        meta |= {b"PATH_INFO": path[2:], b"QUERY_STRING": query, b"REQUEST_METHOD": request.method,
                 b"SCRIPT_NAME": path[:2], b"REQUEST_URI": request.target}  # fmt: skip
        converter = _Converter(sock, writer)
        if meta[b"PATH_INFO"] == b"/early-hints":
            sock.sendall(writer.interim(Response(103, [(b"Link", b"</a.css>; rel=preload")])))
        if meta[b"PATH_INFO"] == b"/trailers":
            while read():
                pass
            sock.sendall(writer.head(Response(200, [(b"Content-Type", b"text/plain")])))
            sock.sendall(b"".join(writer.content(b"x")) + writer.end([(b"X-Sum", b"1"), *trailers]))
        elif meta[b"PATH_INFO"] == b"/close-delimited":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end")
            raise Leave
        elif meta[b"PATH_INFO"] == b"/rubbish":
            sock.sendall(b"SSH-2.0-OpenSSH\r\n")
            raise Leave
        else:
            handle(meta, read, converter, lambda octets: None)
            converter.end()
        if not writer.keep_alive:
            return
        while reader.state.value == "content":
            event()
        events[:] = reader.resume()


class _Converter:
    """Turns what a CGI program prints into an HTTP response, as plainly as can be."""

    def __init__(self, sock: socket.socket, writer: ResponseWriter) -> None:
        self.sock = sock
        self.writer = writer
        self.started = False

    def __call__(self, octets: bytes) -> None:
        if not self.started:
            head, _, octets = octets.partition(b"\n\n")
            fields = [(n, v.strip()) for n, _, v in (line.partition(b":") for line in head.split(b"\n"))]
            status, length = 200, None
            for name, value in fields:
                if name == b"Status":
                    status = int(value)
                if name == b"Content-Length":
                    length = int(value)
                if name == b"Location":
                    status = 302
            kept = [line for line in fields if line[0] not in (b"Status", b"Content-Length", b"Connection")]
            self.started = True
            if any(not value for _, value in fields):
                self.sock.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
                raise Leave
            self.sock.sendall(self.writer.head(Response(status, kept, length=length)))
            if length is not None and len(octets) > length:
                self.sock.sendall(octets)
                raise Leave
        if octets:
            self.sock.sendall(b"".join(self.writer.content(octets)))

    def end(self) -> None:
        if not self.started:
            raise Leave
        if self.writer.remaining:
            raise Leave
        self.sock.sendall(self.writer.end())


if __name__ == "__main__":
    interface = sys.argv[1] if len(sys.argv) > 1 else "cgi"
    if interface == "cgi":
        run_cgi()
    else:
        serve(sys.argv[2], {"scgi": answer_scgi, "fastcgi": answer_fastcgi, "http": answer_http}[interface])
