"""Clients that ask throughout a test, as it wants them: none of their requests may be lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.checked_load import Load
from tests.conftest import Gateway

PAUSE_S = 0.005
"""Of a client between two requests: it leaves room for the gateway, and for the tests beside, on few cores."""


@contextmanager
def load(gateway: Gateway, path: str = "/", clients: int = 6) -> Iterator[Load]:
    """They ask on kept connections until the end of the block, and are answered rightly, each time at once."""
    with Load(gateway.address[1], path, clients=clients, fresh=0, pause_s=PAUSE_S) as one:
        yield one
    assert not one.tally.failures and not one.tally.repeated, one.tally
