"""How the C library keeps the memory of this process, and how much others have.

Promise: buffers that come and go by the thousand do not make the heap shrink and grow each time; where the C library has
no such switch, nothing happens.
Must never know: what the memory is for. Next: `gateway/house.py`, which calls it once.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
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
    """Octets of memory that are in use by a process and all its descendants; 0 where it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_bytes().split()[1])
        lists = [path.read_bytes() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except (OSError, IndexError):
        return 0
    children = [int(child) for text in lists for child in text.split()]
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(map(resident, children))
