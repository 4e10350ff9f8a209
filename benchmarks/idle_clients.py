"""Clients that keep their connections and seldom ask: `python -m benchmarks.idle_clients HOST PORT PATH COUNT EVERY_S`.

Each has asked once before the line of JSON that says how many are open. From then on they ask in turn, each once in
EVERY_S seconds, until stdin ends; the last line of JSON says how many answers there were and how many connections
were lost.

Promise: every answer is read to its end and has to be a 200; a server that lets go of an idle connection is found out.
Must never know: who the server is. Next: `idle.py`, which starts it.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time

PATIENCE_S = 10.0


class Lost(Exception):
    """A connection that the server has closed, or an answer that is none."""


def ask(sock: socket.socket, request: bytes) -> None:
    """Raises Lost, and OSError."""
    sock.sendall(request)
    buffer = b""
    while b"\r\n\r\n" not in buffer:
        buffer += more(sock)
    head, _, content = buffer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise Lost(f"answered {head[:40]!r}")
    left = content_length(head) - len(content)
    while left > 0:
        left -= len(more(sock))
    if left:
        raise Lost(f"{-left} octets more than its length")


def more(sock: socket.socket) -> bytes:
    octets = sock.recv(65536)
    if not octets:
        raise Lost("closed by the server")
    return octets


def content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    raise Lost("an answer without its length")


def open_all(address: tuple[str, int], request: bytes, count: int) -> list[socket.socket]:
    """Raises Lost, and OSError."""
    clients = []
    for _ in range(count):
        sock = socket.create_connection(address, PATIENCE_S)
        ask(sock, request)
        clients.append(sock)
    return clients


def ask_in_turn(clients: list[socket.socket], request: bytes, every_s: float) -> tuple[int, int]:
    """Until stdin ends; requests that were answered, and connections lost."""
    answered = 0
    lost: set[int] = set()
    pause_s = every_s / max(1, len(clients))
    due = time.monotonic()
    at = 0
    while clients:
        due = max(due + pause_s, time.monotonic() - 1)  # who is late does not make up for it in one burst
        if select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
            break
        if at not in lost:
            try:
                ask(clients[at], request)
            except (Lost, OSError) as error:
                if not lost:
                    print(f"connection {at}: {error}", file=sys.stderr)
                lost.add(at)
            else:
                answered += 1
        at = (at + 1) % len(clients)
    return answered, len(lost) + sum(at not in lost and closed(sock) for at, sock in enumerate(clients))


def closed(sock: socket.socket) -> bool:
    """Whether the server has let go of a connection on which nothing is awaited."""
    sock.setblocking(False)
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def main(host: str, port: str, path: str, count: str, every_s: str) -> int:
    request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
    try:
        clients = open_all((host, int(port)), request, int(count))
    except (Lost, OSError) as error:
        print(f"not all of {count} connections could be opened: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"open": len(clients)}), flush=True)
    answered, lost = ask_in_turn(clients, request, float(every_s))
    print(json.dumps({"answered": answered, "lost": lost}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
