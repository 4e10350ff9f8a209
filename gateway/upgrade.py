"""Another gateway in our place: the same command line, with whatever version of the program and config is there now.

Promise: it gets our listening sockets, so that nobody who connects meanwhile is refused or lost; we serve until it
says that it does, and go on where it does not.
Must never know: what is served. Next: `house.py`, which makes way; `processes/listeners.py`, what is handed over.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Final

from gateway.drivers.driver import Driver
from gateway.drivers.poller import READABLE
from gateway.processes.reap import exit_in_words

READY_S: Final = 60.0
"""So long the other one may take until it serves."""
SOCKETS: Final = "GATEWAY_SOCKETS"
"""In the environment of the other one: descriptors by the keys of Listeners, as JSON."""
READY: Final = "GATEWAY_READY"
"""Likewise: the descriptor of a pipe, on which it tells the keys that it has taken, as JSON in one line."""


class Successor:
    """The other process, from its start until it serves or has failed."""

    def __init__(
        self, driver: Driver, sockets: Mapping[str, int], more: Mapping[str, str],
        serves: Callable[[int, list[str]], None], failed: Callable[[str, str], None],
    ) -> None:  # fmt: skip
        """Start it. `more`: for its environment. `serves` is told its pid and the keys, or `failed` what and why.

        Raises OSError.
        """
        self.driver = driver
        self.serves = serves
        self.failed = failed
        self.until = driver.clock() + READY_S
        self.over = False
        self._octets = b""
        self._reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            os.set_blocking(writer, True)
            environment = {**os.environ, **more, SOCKETS: json.dumps(dict(sockets)), READY: str(writer)}
            handed = [*sockets.values(), writer]
            self.pid = os.posix_spawn(
                sys.executable, [sys.executable, *sys.orig_argv[1:]], environment,
                file_actions=[(os.POSIX_SPAWN_DUP2, one, one) for one in handed],  # no longer closed by the exec
                setsigmask=(),
            )  # fmt: skip
        except BaseException:
            os.close(self._reader)
            raise
        finally:
            os.close(writer)
        driver.poller.watch(self._reader, READABLE, self._told)
        driver.watch_child(self.pid, self._ended)

    def tick(self, now: float) -> None:
        """Called at every sweep."""
        if not self.over and now >= self.until:
            self._fail(f"it does not serve after {READY_S:.0f} s", "see what it told on stderr, and in its log")

    def _told(self, events: int) -> None:
        piece = os.read(self._reader, 65536)
        self._octets += piece
        if self._octets.endswith(b"\n"):
            self._close()
            self.serves(self.pid, json.loads(self._octets))
        elif not piece:  # it has ended, mostly, and why is about to be known
            self.driver.poller.forget(self._reader)

    def _ended(self, code: int) -> None:
        if not self.over:
            self._fail(f"it {exit_in_words(code)}", "see what it told on stderr")

    def _fail(self, what: str, remedy: str) -> None:
        self._close()
        try:
            os.kill(self.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
        self.failed(what, remedy)

    def _close(self) -> None:
        self.over = True
        self.driver.poller.forget(self._reader)
        os.close(self._reader)


def handed_over(environment: MutableMapping[str, str]) -> dict[str, int]:
    """Descriptors from the gateway whose place we take; the environment is left without them."""
    sockets: dict[str, int] = json.loads(environment.pop(SOCKETS, "{}"))
    for descriptor in (*sockets.values(), *map(int, filter(None, [environment.get(READY)]))):
        os.set_inheritable(descriptor, False)
    return sockets


def tell_ready(environment: MutableMapping[str, str], keys: list[str]) -> bool:
    """Let the gateway whose place we take know that we serve; whether there is one."""
    descriptor = environment.pop(READY, "")
    if not descriptor:
        return False
    with open(int(descriptor), "w") as pipe:
        pipe.write(json.dumps(keys) + "\n")
    return True
