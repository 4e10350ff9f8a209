"""Memory: how the C library keeps that of this process, and how much another one has.

Promise: buffers that come and go by the thousand do not make the heap shrink and grow each time; where the C library has
no such switch, nothing happens.
Must never know: what the memory is for. Next: `gateway/house.py`, which calls it once.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

M_TRIM_THRESHOLD: Final = -1  # mallopt(3)
M_MMAP_THRESHOLD: Final = -3
KEPT_BYTES: Final = 4 * 1024 * 1024
"""What may be free at the end of the heap before it is given back."""


def keep_heap() -> None:
    """Give free memory back to the system only where it is much.

    By default glibc does so from 128 KiB on, so that two buffers of one large response are enough to have pages unmapped,
    mapped and filled with zeros again, over and over: half of its processor time.
    """
    import ctypes  # only here: it takes a CGI program 3 ms

    with contextlib.suppress(AttributeError, OSError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)


def resident(pid: int) -> int:
    """Octets of memory that a process has in use; 0 where it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0
