"""A FastCGI worker that takes one request at a time and does wrong where its path says so.

Of its own make, from the specification alone: it shares no code with what is tested. Paths:
/echo            method, query and content, a space between each
/pid             its process id
/close           as /echo, then the connection is closed though it was to be kept
/before          ends without a word            /head   ends in the middle of its head
/body            ends in the middle of its content
/leak?MIB        keeps so many MiB more         /fork   leaves a child behind that never ends
/stderr?OCTETS   writes so many to its stderr   /hang   never answers
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
import time

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT = 1, 2, 3, 4, 5, 6
kept: list[bytes] = []


def exactly(sock: socket.socket, length: int) -> bytes:
    octets = b""
    while len(octets) < length:
        piece = sock.recv(length - len(octets))
        if not piece:
            raise EOFError
        octets += piece
    return octets


def record(kind: int, request: int, content: bytes) -> bytes:
    return struct.pack(">BBHHBx", 1, kind, request, len(content), 0) + content


def pairs(octets: bytes) -> dict[str, str]:
    found, at = {}, 0
    while at < len(octets):
        lengths = []
        for _ in range(2):
            if octets[at] < 128:
                lengths.append(octets[at])
                at += 1
            else:
                lengths.append(struct.unpack_from(">I", octets, at)[0] & 0x7FFFFFFF)
                at += 4
        name, value = octets[at : at + lengths[0]], octets[at + lengths[0] : at + sum(lengths)]
        found[name.decode()] = value.decode("latin-1")
        at += sum(lengths)
    return found


def requests(sock: socket.socket):
    """Request id, variables and content of each, until the connection ends."""
    params = stdin = b""
    while True:
        _, kind, request, length, padding = struct.unpack(">BBHHBx", exactly(sock, 8))
        content = exactly(sock, length)
        exactly(sock, padding)
        if kind == BEGIN:
            params = stdin = b""
        elif kind == PARAMS:
            params += content
        elif kind == STDIN and content:
            stdin += content
        elif kind == STDIN:
            yield request, pairs(params), stdin


def serve(sock: socket.socket) -> None:
    for request, variables, content in requests(sock):
        path, query = variables["SCRIPT_NAME"] + variables.get("PATH_INFO", ""), variables["QUERY_STRING"]
        words = f"{variables['REQUEST_METHOD']} {query} {content.decode()}".strip()
        head = "Content-Type: text/plain\r\n\r\n"
        if path == "/before":
            os._exit(1)
        if path == "/head":
            sock.sendall(record(STDOUT, request, b"Content-Type: te"))
            os._exit(1)
        if path == "/body":
            sock.sendall(record(STDOUT, request, f"Content-Length: 100\r\n{head}{words}".encode()))
            os._exit(1)
        if path == "/hang":
            time.sleep(1e6)
        if path == "/leak":
            kept.append(b"x" * (int(query) << 20))
        if path == "/fork" and not os.fork():
            time.sleep(1e6)
        if path == "/stderr":
            line = b"x" * 99 + b"\n"
            for _ in range(int(query) // len(line)):
                os.write(2, line)
        if path == "/pid":
            words = str(os.getpid())
        sock.sendall(
            record(STDOUT, request, (head + words).encode()) + record(STDOUT, request, b"")
            + record(END, request, bytes(8))
        )
        if path == "/close":
            return


def main() -> None:
    if "stubborn" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    listener = socket.socket(fileno=os.dup(0))
    while True:
        sock, _ = listener.accept()
        with sock:
            try:
                serve(sock)
            except (EOFError, OSError):
                pass


main()
