"""Where lines of a log go: a file, a descriptor that is open already, or syslog.

Promise: writing never raises; what could not be written is counted, and a torn line is ended before
the next one. Must never know: what the lines say.
Next: `error_log.py` and `access_log.py`, which write through it.
"""

from __future__ import annotations

import os
import syslog

_PRIORITIES = {"error": syslog.LOG_ERR, "warn": syslog.LOG_WARNING, "info": syslog.LOG_INFO}


class LogFile:
    """One log. `standard_fd` is what "-" means: 1 for the access log, 2 for the error log.

    Raises OSError if a file cannot be opened for appending; it is made with mode 0640.
    """

    __slots__ = ("_fd", "_mine", "_torn", "lost_lines", "target")

    def __init__(self, target: str, standard_fd: int) -> None:
        self.target = target
        self.lost_lines = 0
        """Lines that could not be written (the disk is full) since the last one that could."""
        self._torn = False
        self._fd = -1
        self._mine = target not in ("-", "syslog")
        """Whether we have opened it."""
        if target == "-":
            self._fd = standard_fd
        elif target == "syslog":
            syslog.openlog("gateway", syslog.LOG_PID, syslog.LOG_DAEMON)
        else:
            self._fd = _open(target)

    @property
    def is_syslog(self) -> bool:
        return self.target == "syslog"

    def copy(self) -> LogFile:
        """The same file for another writer of this process, for as long as this one is open: reopened with it."""
        copy = LogFile.__new__(LogFile)
        copy.target = self.target
        copy.lost_lines = 0
        copy._torn = False
        copy._mine = False
        copy._fd = self._fd
        return copy

    def write(self, lines: list[bytes], level: str = "info") -> OSError | None:
        """Write whole lines, each with its line end; the error if not all could be written."""
        if self.is_syslog:
            for line in lines:
                syslog.syslog(_PRIORITIES[level], line.rstrip(b"\n").decode("utf-8", "backslashreplace"))
            return None
        octets = b"".join(lines)
        if self._torn:
            octets = b"\n" + octets
        written = 0
        try:
            # A second try only where a first one wrote a part: it tells why (a full disk, mostly).
            while written < len(octets):
                written += os.write(self._fd, octets[written:] if written else octets)
        except OSError as error:
            if written:
                self._torn = octets[written - 1] != 0x0A
            self.lost_lines += octets.count(b"\n", written) - (self._torn and not written)
            return error
        self._torn = False
        self.lost_lines = 0
        return None

    def reopen(self) -> OSError | None:
        """Open the file anew, after it was renamed; if that fails, the old one stays in use."""
        if not self._mine:
            return None
        try:
            fd = _open(self.target)
        except OSError as error:
            return error
        os.dup2(fd, self._fd, inheritable=False)  # the same number: copies have it, and may be about to write
        os.close(fd)
        self._torn = False
        return None

    def give_to(self, uid: int, gid: int) -> None:
        """Make a file that of a user, who will have to open it again."""
        if self._mine:
            os.fchown(self._fd, uid, gid)

    def close(self) -> None:
        if self._mine and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _open(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o640)
