"""Readiness of descriptors that we move octets of by ourselves, beside an event loop or without one.

Promise: watching a descriptor costs one system call and no object of a loop: an epoll of our own
holds them all, and a loop watches that one. (Registering each with the loop costs a handle a time.)
Must never know: what the descriptors are. Next: `wires.py`, whose wires it wakes.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any, Final

READABLE: Final = select.EPOLLIN
WRITABLE: Final = select.EPOLLOUT
HUNG_UP: Final = select.EPOLLRDHUP
"""The peer of a socket has ended its side."""
CLOSED: Final = select.EPOLLHUP | select.EPOLLERR
ONCE: Final = select.EPOLLET
"""Tell of what comes once, not again in each round for as long as it is there: whoever has not taken all of it has
to watch anew."""
ONE_OF_US: Final = select.EPOLLEXCLUSIVE
"""Of several epolls that watch the same socket, one is woken, not all. Such a watch can't be changed, only ended."""


class Poller:
    """Descriptors and who is to be woken, with the events that came."""

    def __init__(self, began: Callable[[], None], over: Callable[[], None], loop: Any = None) -> None:
        """`began` and `over` are called before and after the callbacks of a round. `loop`: the event loop (of asyncio
        or uvloop) that goes round; None where `wait` is called instead."""
        self._began = began
        self._over = over
        self._loop = loop  # Any: the two do not return the same from what is called here
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._fresh: set[int] = set()
        """Watched since the last look: what that found under such a number was another one's."""
        self._files: dict[int, int] = {}
        """Regular files and the like, which epoll refuses since they are always ready; and the events wanted."""
        self._going_round = False
        if loop is not None:
            loop.add_reader(self._epoll.fileno(), self._ready)

    def watch(self, descriptor: int, events: int, callback: Callable[[int], None]) -> None:
        """Call `callback(events)` whenever one of `events` holds, or an error; again: change the events."""
        if descriptor not in self._callbacks:
            try:
                self._epoll.register(descriptor, events)
            except PermissionError:
                self._files[descriptor] = events
                if self._loop is not None and not self._going_round:
                    self._going_round = True
                    self._loop.call_soon(self._go_round)
            self._fresh.add(descriptor)
        elif descriptor in self._files:
            self._files[descriptor] = events
        else:
            self._epoll.modify(descriptor, events)
        self._callbacks[descriptor] = callback

    def forget(self, descriptor: int, *, closing: bool = False) -> None:
        """Watch it no longer; to be called before it is closed.

        `closing`: it is closed now, and nobody has a duplicate, so that the kernel takes it out by itself. (A child
        has one of each descriptor until its exec: such a ghost would wake the loop again and again.)
        """
        if self._callbacks.pop(descriptor, None) is not None:
            if descriptor in self._files:
                del self._files[descriptor]
            elif not closing:
                self._epoll.unregister(descriptor)

    def wait(self, timeout: float) -> None:
        """Call back whoever is ready, now or within `timeout` seconds."""
        callbacks, fresh = self._callbacks, self._fresh
        found = self._epoll.poll(0.0 if self._files else timeout)
        if fresh:
            fresh.clear()
        self._began()
        try:
            for descriptor, events in found:
                callback = callbacks.get(descriptor)
                # an earlier one of this round may have closed it, and another one may have its number now
                if callback is not None and descriptor not in fresh:
                    callback(events)
            if self._files:
                for descriptor, events in list(self._files.items()):
                    callback = callbacks.get(descriptor)
                    if callback is not None:
                        callback(events & (READABLE | WRITABLE))
        finally:
            self._over()

    def _ready(self) -> None:
        self.wait(0.0)

    def _go_round(self) -> None:
        """No descriptor wakes the loop for a file."""
        self._going_round = bool(self._files)
        if self._going_round and self._loop is not None:
            self._loop.call_soon(self._go_round)
            self.wait(0.0)

    def close(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._epoll.fileno())
        self.abandon()

    def abandon(self) -> None:
        """In a child that was forked: let go of an epoll that is the parent's, without changing it."""
        self._epoll.close()
        self._callbacks.clear()
        self._files.clear()
