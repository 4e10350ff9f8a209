"""The fixture `kit`: each driver that there is, the event driver on each of the loops that it may run on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drivers.kit import Kit

DRIVERS = ["uvloop", "asyncio", "blocking"]


@pytest.fixture(params=DRIVERS)
def kit(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kit]:
    made = Kit(request.param, tmp_path)
    yield made
    made.close()
