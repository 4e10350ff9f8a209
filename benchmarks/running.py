"""Start a server, wait until it listens, and end it with all that it has started.

Promise: nothing is left running; a server that does not come up is an error that holds what it said.
Must never know: a server's config. Next: `servers.py` and `app_servers.py`, the configs.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

START_S = 15.0
STOP_S = 10.0
ON_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # Debian's servers are not on a user's PATH
PYTHON = [sys.executable, "-P", "-m"]  # -P: the package that is installed, not the one in this folder

Maker = Callable[[Path, int], list[str]]
"""Writes the config for a port into a directory, and returns the command."""


class CannotStart(Exception):
    """A server or the origin does not come up; the text holds what it said."""


@dataclass(frozen=True)
class Started:
    """A server that listens."""

    pid: int
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Running:
    """A started program; its standard error is kept in `log` until somebody asks why."""

    def __init__(
        self, command: Sequence[str], cores: Sequence[int], log: Path, *, stdin: int | None = None, stdout: int | None = None
    ) -> None:
        self.log = log
        with log.open("wb") as errors:
            # A group and no session: a session would be a scheduling group of its own (sched(7), autogroup).
            self.process = subprocess.Popen(
                ["taskset", "-c", ",".join(map(str, cores)), *command],
                env=environment(), stdin=stdin, stdout=stdout, stderr=errors, process_group=0,
            )  # fmt: skip
        # taskset becomes the command, so the process id is the server's own.
        self.pid = self.process.pid

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-2000:].strip() or "it said nothing"

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.process.wait()

    def await_listening(self, name: str, address: tuple[str, int] | str) -> None:
        """Until somebody accepts there: host and port, or the path of a unix socket. Raises CannotStart."""
        until = time.monotonic() + START_S
        while True:
            try:
                with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as probe:
                    probe.settimeout(1)
                    probe.connect(address)
                return
            except OSError:
                gone = self.process.poll() is not None
                if gone or time.monotonic() > until:
                    why = "ended at once" if gone else f"does not listen after {START_S:.0f} s"
                    raise CannotStart(f"{name} {why}: {self.said()}") from None
                time.sleep(0.05)


def environment() -> dict[str, str]:
    return {**os.environ, "PATH": ON_PATH}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def directory(stack: contextlib.ExitStack) -> Path:
    """A temporary one. A server may run as root and read as somebody else, so it is open to all."""
    made = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-bench-")))
    made.chmod(0o755)
    return made


def start(stack: contextlib.ExitStack, name: str, maker: Maker, where: Path, cores: Sequence[int]) -> Started:
    """A server on a port of its own, once it listens; it ends with the stack. Raises CannotStart."""
    home = where / name
    home.mkdir(exist_ok=True)
    port = free_port()
    server = Running(maker(home, port), cores, home / "stderr")
    stack.callback(server.stop)
    server.await_listening(name, ("127.0.0.1", port))
    return Started(server.pid, port)


def allow_descriptors(needed: int, what: str, fewer: str) -> None:
    """For this process and all it starts; `fewer`: the option to need less. Raises CannotStart where the limit is lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise CannotStart(
            f"{what} need {needed:,} descriptors in one process, and the hard limit here is {hard:,}: "
            f"raise it (ulimit -Hn, as root), or ask for fewer ({fewer})"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
