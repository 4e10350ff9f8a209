"""Several machines on one computer: network namespaces on a bridge; addresses of 127.0.0.0/8 where these may not be made.

Promise: a machine answers with its name and what it was asked; it can be cut off, killed, and come back.
Must never know: the gateway. Next: `test_many_machines.py`.

    python machines.py NAME HOST PORT DELAY_S      is the worker on one of them
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from types import TracebackType

PORT = 8080
_NETWORKS = itertools.count()


class Worker(BaseHTTPRequestHandler):
    """An HTTP worker: its name, then the content or the path."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    name = ""
    delay_s = 0.0

    def do_GET(self) -> None:
        if self.path != "/healthz" and self.delay_s:
            time.sleep(self.delay_s)  # it is slow
        self._answer(self.path.encode())

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, what: bytes) -> None:
        content = self.name.encode() + b" " + what
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n"
        self.wfile.write(head.encode() + content)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that is reset is no error of ours."""


class Machine:
    """One of them, with a worker."""

    def __init__(self, network: Network, number: int, delay_s: float) -> None:
        self.network = network
        self.name = f"m{number}"
        self.number = number
        self.delay_s = delay_s
        self.host = network.host(number)
        self.blocked: list[socket.socket] = []
        network.plug(self)
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, __file__, self.name, self.host, str(PORT), str(self.delay_s)]
        process = subprocess.Popen(self.network.within(self) + command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    def kill(self) -> None:
        """The worker is gone from one moment to the next; the machine says so."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def cut_off(self) -> None:
        """Nothing comes from it any more, not even a refusal."""
        if self.network.real:
            self.network.link(self, "down")
            return
        self.kill()
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.host, PORT))
        listener.listen(0)
        self.blocked.append(listener)
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex((self.host, PORT))
            self.blocked.append(filler)

    def come_back(self) -> None:
        if self.network.real:
            self.network.link(self, "up")
            return
        for sock in self.blocked:
            sock.close()
        self.process = self._start()

    def close(self) -> None:
        for sock in self.blocked:
            sock.close()
        if self.process.poll() is None:
            self.kill()


class Network:
    """The machines, and the way to them."""

    def __init__(self, *, namespaces: bool) -> None:
        """`namespaces`: if they may be made."""
        self.id = f"{os.getpid() % 100000}x{next(_NETWORKS)}"
        self.bridge = f"gw{self.id}"
        self.net = f"198.18.{os.getpid() % 250 + 1}"  # RFC 2544: for tests of networks
        self.machines: list[Machine] = []
        self.real = namespaces and self._make()

    def _make(self) -> bool:
        """Whether there may be namespaces."""
        if os.geteuid() != 0:
            return False
        try:
            _ip("netns", "add", f"{self.bridge}t")
            _ip("link", "add", self.bridge, "type", "bridge")
            _ip("addr", "add", f"{self.net}.1/24", "dev", self.bridge)
            _ip("link", "set", self.bridge, "up")
        except (OSError, subprocess.CalledProcessError):
            self._unmake()
            return False
        _ip("netns", "del", f"{self.bridge}t")
        return True

    def _unmake(self) -> None:
        for command in (("netns", "del", f"{self.bridge}t"), ("link", "del", self.bridge)):
            with contextlib.suppress(OSError, subprocess.CalledProcessError):
                _ip(*command)

    def host(self, number: int) -> str:
        return f"{self.net}.{number + 10}" if self.real else f"127.0.77.{number + 10}"

    def within(self, machine: Machine) -> list[str]:
        """What a command begins with that runs there."""
        return ["ip", "netns", "exec", f"{self.bridge}{machine.name}"] if self.real else []

    def plug(self, machine: Machine) -> None:
        if not self.real:
            return
        namespace = f"{self.bridge}{machine.name}"
        outside, inside = f"v{self.id}o{machine.number}", f"v{self.id}i{machine.number}"
        _ip("netns", "add", namespace)
        _ip("link", "add", outside, "type", "veth", "peer", "name", inside)
        _ip("link", "set", inside, "netns", namespace)
        _ip("link", "set", outside, "master", self.bridge, "up")
        _ip("-n", namespace, "addr", "add", f"{machine.host}/24", "dev", inside)
        _ip("-n", namespace, "link", "set", inside, "up")
        _ip("-n", namespace, "link", "set", "lo", "up")

    def link(self, machine: Machine, state: str) -> None:
        _ip("link", "set", f"v{self.id}o{machine.number}", state)

    def machine(self, delay_s: float = 0.0) -> Machine:
        """One more."""
        made = Machine(self, len(self.machines), delay_s)
        self.machines.append(made)
        return made

    def __enter__(self) -> Network:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for machine in self.machines:
            machine.close()
            if self.real:
                _ip("netns", "del", f"{self.bridge}{machine.name}")
        if self.real:
            self._unmake()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Load:
    """Clients that ask all the time; each response is looked at."""

    def __init__(self, address: tuple[str, int], clients: int = 8) -> None:
        self.address = address
        self.clients = clients
        self.lock = threading.Lock()
        self.served: dict[str, int] = {}
        """By the machine that answered, of requests that began after the last `anew`."""
        self.failed: list[tuple[str, int]] = []
        """Method and status of what was no answer of a machine, likewise."""
        self.phase = 0
        self.wrong: list[bytes] = []
        """What was not for who got it."""
        self.over = False
        self.numbers = itertools.count()
        self.threads = [threading.Thread(target=self._ask, args=(client,), daemon=True) for client in range(clients)]

    def __enter__(self) -> Load:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.over = True
        for thread in self.threads:
            thread.join(30)

    def anew(self) -> None:
        with self.lock:
            self.served, self.failed = {}, []
            self.phase += 1

    def total(self) -> int:
        with self.lock:
            return sum(self.served.values())

    def by(self, machine: Machine) -> int:
        with self.lock:
            return self.served.get(machine.name, 0)

    def _ask(self, client: int) -> None:
        import http.client

        connection = http.client.HTTPConnection(*self.address, timeout=30)
        with contextlib.closing(connection):
            for number in _while(lambda: not self.over):
                token = f"/{client}-{number}"
                phase = self.phase
                method = "POST" if number % 4 == 3 else "GET"
                connection.request(method, token, token if method == "POST" else None)
                response = connection.getresponse()
                content = response.read()
                name, _, rest = content.partition(b" ")
                with self.lock:
                    if response.status == 200 and rest != token.encode():
                        self.wrong.append(content)
                    if phase != self.phase:
                        continue
                    if response.status == 200:
                        self.served[name.decode()] = self.served.get(name.decode(), 0) + 1
                    else:
                        self.failed.append((method, response.status))


def _while(holds: object) -> Iterator[int]:
    for number in itertools.count():
        if not holds():  # type: ignore[operator]
            return
        yield number


if __name__ == "__main__":
    Worker.name, Worker.delay_s = sys.argv[1], float(sys.argv[4])
    with Server((sys.argv[2], int(sys.argv[3])), Worker) as server:
        print("ready", flush=True)
        server.serve_forever()
