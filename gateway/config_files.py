"""What is wrong with a path that the config names: in words, with what to do.

Promise: what may not be looked at is never told as missing; nothing is opened or changed.
Must never know: TOML, routes. Next: `config.py`, which asks; `cli/check.py`, for a user that is to come.
"""

from __future__ import annotations

import os
import pwd
import stat
from typing import NamedTuple


class Fault(NamedTuple):
    problem: str
    remedy: str = ""
    """What is allowed instead; "" where the caller knows better."""


def user_name(uid: int) -> str:
    """The name of a user on this machine, else the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"with id {uid}"


def may(path: str, bits: int, user: str | None = None) -> bool:
    """Whether we, or a user of this machine, may do with a file what `bits` say (os.R_OK, W_OK, X_OK).

    Of another user only the mode is looked at, access control lists are not.
    """
    if user is None or pwd.getpwnam(user).pw_uid == os.geteuid():
        return os.access(path, bits, effective_ids=True)
    entry, status = pwd.getpwnam(user), os.stat(path)
    if entry.pw_uid == 0:
        return True
    if status.st_uid == entry.pw_uid:
        return status.st_mode >> 6 & bits == bits
    groups = os.getgrouplist(user, entry.pw_gid)
    return status.st_mode >> (3 if status.st_gid in groups else 0) & bits == bits


def directory_fault(path: str, user: str | None = None) -> Fault | None:
    """Why no user may use what lies in a directory, or None."""
    closed = _closed_above(path, user)
    if closed is not None:
        return closed
    if not os.path.isdir(path):
        return Fault("is no directory" if os.path.exists(path) else f"there is no directory {path}")
    return None if may(path, os.X_OK, user) else _closed(path, user)


def program_fault(path: str, user: str | None = None) -> Fault | None:
    """Why a file cannot be run, or None."""
    closed = _closed_above(path, user)
    if closed is not None:
        return closed
    if not os.path.isfile(path):
        return Fault("is no file that can be run" if os.path.exists(path) else f"there is no file {path}")
    if not os.stat(path).st_mode & 0o111:
        return Fault("cannot be run", f"an executable file: chmod +x {path}")
    return None if may(path, os.X_OK, user) else _refused("run", path, "chmod a+rx", user)


def log_fault(path: str, user: str | None = None) -> Fault | None:
    """Why a log can be neither made nor written, or None."""
    directory = os.path.dirname(path)
    closed = _closed_above(path, user)
    if closed is not None:
        return closed
    if os.path.isdir(path) or not os.path.isdir(directory):
        why = f"{path} is a directory" if os.path.isdir(path) else f"there is no directory {directory}"
        return Fault(f"cannot be written: {why}", "a file in a directory that exists, relative to the config file")
    if not os.path.exists(path):
        return log_directory_fault(path, user)
    return None if may(path, os.W_OK, user) else _refused("write", path, "chown or chmod", user)


def log_directory_fault(path: str, user: str | None = None) -> Fault | None:
    """Why no new file may be made in place of a log, as is done after it was renamed; or None."""
    directory = os.path.dirname(path)
    if may(directory, os.W_OK | os.X_OK, user):
        return None
    return _refused("make a file in", directory, "chown or chmod", user)


def _closed_above(path: str, user: str | None) -> Fault | None:
    """The first directory on the way to `path`, or to what it is a link to, that may not be entered."""
    for way in (path, os.path.realpath(path)):
        position = 0
        while (position := way.find("/", position + 1)) != -1:
            above = way[:position]
            if os.path.isdir(above) and not may(above, os.X_OK, user):
                return _closed(above, user)
    return None


def _closed(directory: str, user: str | None) -> Fault:
    return _refused("enter", directory, "chmod o+x", user)


def _refused(what: str, path: str, command: str, user: str | None) -> Fault:
    status = os.stat(path)
    who = user or user_name(os.geteuid())
    return Fault(
        f"user {who} may not {what} {path}: mode {stat.S_IMODE(status.st_mode):o}, of user {user_name(status.st_uid)}",
        f"{command} {path}, or give user {who} or its group access",
    )
