"""The listening sockets of a server: what a new config no longer names is closed, what it names still is left as it is.

Promise: all of the new ones, or none; a socket that goes on is the very same one, and nobody who waits at it is lost;
what a gateway before us has handed over is taken before a new one is made.
Must never know: HTTP, who accepts. Next: `listen_socket.py`, how one is made.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway.ends import Address
from gateway.errors import ServeError
from gateway.processes.listen_socket import SYSTEMD, Place, explain_bind, make_listener, remove_stale


@dataclass(frozen=True)
class Listener:
    sock: socket.socket
    name: str
    """As for people."""
    path: str
    """Of the file of a unix socket that is ours to remove."""


class Listeners:
    """By place, as the config names it, and how often it did before (port 0 is another one each time)."""

    def __init__(self, inherited: Mapping[str, int] | None = None, activated: Sequence[int] = ()) -> None:
        """`inherited`: descriptors by the keys that `handed_over` told. `activated`: those of systemd."""
        self.inherited = dict(inherited or {})
        self.activated = [*activated] or [one for key, one in self.inherited.items() if key.startswith("fd:")]
        self.open: dict[str, Listener] = {}

    def add(self, places: Sequence[Place]) -> list[str]:
        """Make those that are missing; the keys of all. Raises ServeError, and nothing has changed then."""
        places = self._all(places)
        keys = keys_of(places)
        made: list[str] = []
        try:
            for key, place in zip(keys, places, strict=True):
                if key not in self.open:
                    self.open[key] = self._make(key, place)
                    made.append(key)
        except OSError as error:
            for key in made:
                self._close(key)
            raise ServeError(*explain_bind(error, place)) from None
        return keys

    def drop_inherited(self) -> None:
        """Nobody listens at those that were not taken: who handed them over deals with who waits there."""
        for descriptor in self.inherited.values():
            os.close(descriptor)
        self.inherited.clear()

    def _all(self, places: Sequence[Place]) -> list[Place]:
        if SYSTEMD not in places:
            return list(places)
        if not self.activated:
            raise ServeError(
                'listen = "systemd": systemd has handed over no socket',
                "start the unit that ends in .socket, and let systemd start the service: see docs/systemd.md",
            )
        return [one for place in places for one in (self.activated if place == SYSTEMD else [place])]

    def _make(self, key: str, place: Place) -> Listener:
        descriptor = self.inherited.pop(key, -1)
        if descriptor < 0:
            sock, name = make_listener(place)
        else:
            sock = socket.socket(fileno=descriptor)
            name = name_of(place, sock)
        # All duplicates of a socket block, or none: whoever accepts at another one, of an older config or in a gateway
        # before us, must never come to wait.
        sock.setblocking(False)
        return Listener(sock, name, "" if isinstance(place, int) else place.path)

    def keep(self, keys: Iterable[str]) -> None:
        """Close all others; who still listens there is about to end."""
        kept = set(keys)
        for key in [key for key in self.open if key not in kept]:
            if self.open[key].path:
                with contextlib.suppress(OSError):
                    os.unlink(self.open[key].path)
            self._close(key)

    def sockets(self, keys: Iterable[str]) -> list[socket.socket]:
        return [self.open[key].sock for key in keys]

    def names(self, keys: Iterable[str]) -> list[str]:
        return [self.open[key].name for key in keys]

    def handed_over(self) -> dict[str, int]:
        """Descriptors by key, for the gateway that takes our place."""
        return {key: one.sock.fileno() for key, one in self.open.items()}

    def forget_files(self, keys: Collection[str]) -> None:
        """Somebody else listens at these now."""
        for key, one in self.open.items():
            if key in keys:
                self.open[key] = Listener(one.sock, one.name, "")

    def close_sockets(self) -> None:
        """Nobody is to come any more; the files stay until `close`, since a child may still listen there."""
        for one in self.open.values():
            one.sock.close()

    def close(self) -> None:
        for key in list(self.open):
            self._close(key)

    def _close(self, key: str) -> None:
        one = self.open.pop(key)
        one.sock.close()
        remove_stale(one.path)


def keys_of(places: Sequence[Place]) -> list[str]:
    keys: list[str] = []
    for place in places:
        text = f"fd:{place}" if isinstance(place, int) else str(place)
        again = sum(key.partition("#")[0] == text for key in keys)
        keys.append(f"{text}#{again}" if again else text)
    return keys


def name_of(place: Place, sock: socket.socket) -> str:
    """As `make_listener` would have told it."""
    if isinstance(place, int):
        return f"fd:{place}"
    return str(place if place.path else Address(*sock.getsockname()[:2]))
