"""What a test needs to be somebody who is not allowed everything, also where root runs the tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def public_directory() -> Iterator[Path]:
    """A directory that every user may enter, as those of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@contextmanager
def nobody() -> Iterator[None]:
    """This process as a user without rights; where others than root run the tests, they have none either."""
    if os.getuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def close_to_nobody(path: Path) -> None:
    """Leave no right of a file to the user of `nobody`, and some right to somebody else."""
    path.chmod(0o700 if os.getuid() == 0 else 0o001)
