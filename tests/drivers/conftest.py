"""The fixture `kit`: a driver on each of the loops that it may run on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from tests.drivers.kit import Kit

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture(params=LOOPS)
def kit(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kit]:
    loop = LOOPS[request.param]()
    asyncio.set_event_loop(loop)
    yield Kit(loop, tmp_path)
    loop.close()
