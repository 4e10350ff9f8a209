"""Why the system refused to start a program: one errno has many reasons, and each another remedy.

Promise: a cause from a closed list, what happened, and what to do, found by looking at the files again;
it never raises and changes nothing.
Must never know: requests, event loops; of HTTP, it names the status that fits. Next: `launch.py`.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import Literal, NamedTuple, TypeAlias

from gateway.ends import Launch

Cause: TypeAlias = Literal[
    "no-file",
    "no-directory",
    "no-interpreter",
    "crlf-shebang",
    "not-executable",
    "directory-permission",
    "no-permission",
    "not-a-program",
    "too-large",
    "process-limit",
    "descriptor-limit",
    "no-memory",
    "file-busy",
    "not-started",
]

ONE_STRING_BYTES = 128 * 1024
"""What one argument or variable may have on Linux, its NUL included (MAX_ARG_STRLEN)."""

_HEAD_BYTES = 256
"""What the kernel reads of a file to decide how to run it (BINPRM_BUF_SIZE)."""

_SHEBANG = re.compile(rb"#![ \t]*([^ \t\n]*)[^\n]*(\n?)")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


_STATUS: dict[Cause, int] = {
    "no-file": 404,
    "not-executable": 403,
    "directory-permission": 403,
    "no-permission": 403,
    "too-large": 431,
    "process-limit": 503,
    "descriptor-limit": 503,
    "no-memory": 503,
    "file-busy": 503,
}


class Explanation(NamedTuple):
    status: int
    """What a client is told: 500 unless a request, its path or the load is the reason (SEMANTICS 21)."""
    cause: Cause
    detail: str
    """What happened, a short sentence without a full stop."""
    remedy: str
    """What to do about it, likewise; may be empty."""


def _explanation(cause: Cause, detail: str, remedy: str) -> Explanation:
    return Explanation(_STATUS.get(cause, 500), cause, detail, remedy)


def explain(error: OSError, launch: Launch) -> Explanation:
    """Why `launch` could not be started (SEMANTICS 21, 73, 80)."""
    code = error.errno
    if code == errno.E2BIG:
        return _too_large(launch)
    if code == errno.EAGAIN:
        return _explanation(
            "process-limit",
            "the system allows no more processes",
            "raise the limit (ulimit -u, TasksMax= of systemd, pids.max of the container) "
            "or lower `processes` of the route",
        )
    if code in (errno.EMFILE, errno.ENFILE):
        return _explanation(
            "descriptor-limit",
            "no more descriptors can be opened",
            "raise the limit (ulimit -n, LimitNOFILE= of systemd)",
        )
    if code == errno.ENOMEM:
        return _explanation("no-memory", "no memory for another process", "lower `processes` of the route")
    directory = launch.directory
    in_directory = _directory_fault(directory)
    if in_directory is not None:
        return in_directory
    path = os.path.join(directory, launch.path)
    if code in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
        return _missing(path) or _missing_interpreter(path)
    if code in (errno.EACCES, errno.EPERM):
        return _refused(path)
    if code == errno.ENOEXEC:
        return _no_program(path)
    if code == errno.ETXTBSY:
        return _explanation("file-busy", f"{_told(path)} is being written to", "install it by renaming")
    return _explanation("not-started", f"{_told(path)}: {error.strerror or error}", "")


def _told(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


def _size(octets: int) -> str:
    return f"{octets:,} octets"


def _too_large(launch: Launch) -> Explanation:
    sizes = {f"variable {_told(name)}": len(name) + len(value) + 2 for name, value in launch.environment.items()}
    sizes |= {f"argument {number}": len(text) + 1 for number, text in enumerate(launch.argv)}
    name, largest = max(sizes.items(), key=lambda item: item[1], default=("", 0))
    if largest > ONE_STRING_BYTES:
        detail = f"{name} has {_size(largest)}, the system takes at most {_size(ONE_STRING_BYTES)} in one"
    else:
        detail = f"arguments and environment have {_size(sum(sizes.values()))}, more than the system takes"
    return _explanation(
        "too-large",
        detail,
        "lower `header_fields` or `request_line` of [server.limits], or use fastcgi or scgi",
    )


def _directory_fault(directory: bytes) -> Explanation | None:
    try:
        mode = os.stat(directory).st_mode
    except PermissionError:
        return _closed_parent(directory)
    except OSError as error:
        return _explanation("no-directory", f"directory {_told(directory)}: {error.strerror}", "create it")
    if not stat.S_ISDIR(mode):
        return _explanation("no-directory", f"{_told(directory)} is not a directory", "")
    if not os.access(directory, os.X_OK):
        return _closed_directory(directory)
    return None


def _closed_directory(directory: bytes) -> Explanation:
    return _explanation(
        "directory-permission",
        f"the gateway (user {_user()}) may not enter directory {_told(directory)}",
        f"chmod o+x {_told(directory)}, or give that user or its group access",
    )


def _closed_parent(path: bytes) -> Explanation | None:
    """The first directory on the way to `path` that may not be entered."""
    position = 1
    while (position := path.find(b"/", position)) != -1:
        parent = path[:position]
        if os.path.isdir(parent) and not os.access(parent, os.X_OK):
            return _closed_directory(parent)
        position += 1
    return None


def _user() -> str:
    return str(os.geteuid())


def _missing(path: bytes) -> Explanation | None:
    if os.path.exists(path):
        return None
    if os.path.islink(path):
        return _explanation("no-file", f"{_told(path)} is a symbolic link to nothing", "mend the link")
    return _explanation("no-file", f"{_told(path)} does not exist", "")


def _head(path: bytes) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError:
        return b""


def _missing_interpreter(path: bytes) -> Explanation:
    head = _head(path)
    shebang = _SHEBANG.match(head)
    if shebang is None:
        return _explanation(
            "no-interpreter",
            f"{_told(path)} exists, but the loader or a library that it names does not",
            "it was made for another system: build it here, or link it statically (see `file` and `ldd`)",
        )
    interpreter = shebang[1]
    if interpreter.endswith(b"\r"):
        return _explanation(
            "crlf-shebang",
            f"the first line of {_told(path)} ends with CR LF, so that no interpreter has the name it gives",
            f"save it with Unix line ends: sed -i 's/\\r$//' {_told(path)}",
        )
    return _explanation(
        "no-interpreter",
        f"{_told(path)} names the interpreter {_told(interpreter)}, which does not exist",
        "install it, or correct the first line of the script",
    )


def _refused(path: bytes) -> Explanation:
    closed = _closed_parent(path)
    if closed is not None:
        return closed
    try:
        status = os.stat(path)
    except OSError as error:
        return _explanation("no-permission", f"{_told(path)}: {error.strerror}", "")
    if not stat.S_ISREG(status.st_mode):
        return _explanation("not-executable", f"{_told(path)} is not a regular file", "")
    if not status.st_mode & 0o111:
        return _explanation("not-executable", f"{_told(path)} is not executable", f"chmod +x {_told(path)}")
    if not os.access(path, os.X_OK):
        return _explanation(
            "no-permission",
            f"the gateway (user {_user()}) may not execute {_told(path)}, mode {status.st_mode & 0o7777:o}",
            f"chmod a+rx {_told(path)}, or give that user or its group access",
        )
    if os.statvfs(path).f_flag & os.ST_NOEXEC:
        return _explanation(
            "no-permission",
            f"{_told(path)} lies on a file system mounted with noexec",
            "move it, or mount that file system with exec",
        )
    shebang = _SHEBANG.match(_head(path))
    if shebang is not None:
        return _explanation(
            "no-permission",
            f"{_told(path)} names the interpreter {_told(shebang[1])}, which may not be executed",
            "correct the first line of the script, or the mode of the interpreter",
        )
    return _explanation(
        "no-permission",
        f"the system refuses to execute {_told(path)}, though its mode allows it",
        "see the log of SELinux, AppArmor or seccomp",
    )


def _no_program(path: bytes) -> Explanation:
    head = _head(path)
    detail = f"{_told(path)} is neither a program of this machine nor does its first line name an interpreter"
    remedy = "its first line must be like #!/bin/sh"
    if not head:
        detail, remedy = f"{_told(path)} is empty", "write the script"
    elif head.startswith(_BYTE_ORDER_MARK + b"#!"):
        detail = f"{_told(path)} begins with a byte order mark, which hides its #! line"
        remedy = "save it as UTF-8 without byte order mark"
    elif head.startswith(b"\x7fELF"):
        detail, remedy = f"{_told(path)} was made for another kind of machine", "build it for this one"
    elif shebang := _SHEBANG.match(head):
        remedy = "name the interpreter after #!"
        if not shebang[2]:
            detail = f"the first line of {_told(path)} is longer than {_HEAD_BYTES - 1} octets"
            remedy = "shorten the path of the interpreter"
    return _explanation("not-a-program", detail, remedy)
