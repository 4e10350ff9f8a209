"""Forks that are not ours: an application may fork, and its child come back to us as if it were the engine.

Promise: such a child ends when it comes back, and touches no stream; a connection that it has a duplicate of ends
for the peer when we close it, all the same.
Must never know: who forks. Next: `driver.py`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from gateway.drivers.driver import Driver

STRAY: Final = 70
"""The exit code (EX_SOFTWARE of sysexits.h)."""

_open: set[Driver] = set()
"""The drivers of this process."""


def note_open(driver: Driver) -> None:
    _open.add(driver)


def note_closed(driver: Driver) -> None:
    _open.discard(driver)


def _in_parent() -> None:
    for driver in list(_open):
        driver.shared = True


def _in_child() -> None:
    drivers = list(_open)
    _open.clear()
    for driver in drivers:
        driver.forked()


os.register_at_fork(after_in_parent=_in_parent, after_in_child=_in_child)


def end_stray() -> NoReturn:
    """The child of somebody else's fork has come back."""
    try:
        os.write(
            2,
            b"gateway: a child that the application has forked came back from it, and was ended: "
            b"let it end by itself, with os._exit\n",
        )
    finally:
        os._exit(STRAY)
