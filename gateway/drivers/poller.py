"""Readiness of descriptors that live for one request, beside the event loop.

Promise: watching a descriptor costs one system call and no object of the loop: an epoll of our own
holds them all, and the loop watches that one. (Registering each with the loop costs a handle a time.)
Must never know: what the descriptors are. Next: `wires.py`, whose wires it wakes.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Final

READABLE: Final = select.EPOLLIN
WRITABLE: Final = select.EPOLLOUT
HUNG_UP: Final = select.EPOLLRDHUP
"""The peer of a socket has ended its side."""
CLOSED: Final = select.EPOLLHUP | select.EPOLLERR


class Poller:
    """Descriptors and who is to be woken, with the events that came."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._ready)

    def watch(self, descriptor: int, events: int, callback: Callable[[int], None]) -> None:
        """Call `callback(events)` whenever one of `events` holds, or an error; again: change the events."""
        if descriptor in self._callbacks:
            self._epoll.modify(descriptor, events)
        else:
            self._epoll.register(descriptor, events)
        self._callbacks[descriptor] = callback

    def forget(self, descriptor: int, *, closing: bool = False) -> None:
        """Watch it no longer; to be called before it is closed.

        `closing`: it is closed now, and nobody has a duplicate, so that the kernel takes it out by itself. (A child
        has one of each descriptor until its exec: such a ghost would wake the loop again and again.)
        """
        if self._callbacks.pop(descriptor, None) is not None and not closing:
            self._epoll.unregister(descriptor)

    def _ready(self) -> None:
        callbacks = self._callbacks
        for descriptor, events in self._epoll.poll(0):
            callback = callbacks.get(descriptor)
            if callback is not None:  # an earlier one of this round may have closed it
                callback(events)

    def close(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
