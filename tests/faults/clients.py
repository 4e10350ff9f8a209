"""Clients that ask throughout a test, as it wants them: none of their requests may be lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.checked_load import Load
from tests.conftest import Gateway

PAUSE_S = 0.005
"""Of a client between two requests: it leaves room for the gateway, and for the tests beside, on few cores."""


@contextmanager
def load(gateway: Gateway, clients: int = 6) -> Iterator[Load]:
    """They ask for / on kept connections until the end of the block; each page says who answers."""
    with Load(gateway.address[1], "/", clients=clients, fresh=0, pause_s=PAUSE_S, named=True) as one:
        yield one
    assert not one.tally.failures and not one.tally.repeated, one.tally
