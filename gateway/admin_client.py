"""The admin socket from outside: where a gateway has it, and how it is asked.

Promise: whoever may not ask, or finds nobody, is told why and what to do. Must never know: what may be asked.
Next: `admin.py`, the other end; `cli/status.py`, a user.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import pwd
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.config import Config

UNITS_DIRECTORY = "/run/gateway"
"""Where a gateway that systemd has started with RuntimeDirectory=gateway has it."""


class NotAnswered(Exception):
    """Nobody answered: what happened, and what to do."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


class NobodyThere(NotAnswered):
    """No gateway has this socket."""


def default_paths(origin: str, environment: Mapping[str, str], uid: int) -> list[str]:
    """Where the gateway of a config file, or of a directory, has its socket where the config says nothing: the first.

    The others are where it is to be looked for, too: it may have been started in another environment.
    """
    digest = hashlib.sha256(os.fsencode(os.path.realpath(origin))).hexdigest()[:16]
    directories = [environment.get("RUNTIME_DIRECTORY", "").partition(":")[0], environment.get("XDG_RUNTIME_DIR", "")]
    if uid == 0:
        directories.append("/run")
    directories.append(private_directory(environment, uid))
    directories.append(UNITS_DIRECTORY)
    found = [os.path.join(directory, f"gateway-{digest}.sock") for directory in directories if directory]
    return list(dict.fromkeys(found))


def private_directory(environment: Mapping[str, str], uid: int) -> str:
    """For a user who has no directory for such things: made by the gateway, and closed to others."""
    return os.path.join(environment.get("TMPDIR") or "/tmp", f"gateway-{uid}")


def paths_of(config: Config) -> list[str]:
    """Where the socket of its gateway may be, the likeliest first; none if the config wants none."""
    admin = config.server.admin
    if isinstance(admin, bool):
        return default_paths(config.origin, os.environ, os.geteuid()) if admin else []
    return [admin.path]


def ask_one_of(paths: Sequence[str], method: str, target: str, timeout_s: float = 30.0) -> tuple[int, bytes]:
    """Ask where somebody is. Raises NotAnswered."""
    if not paths:
        raise NobodyThere("this config has no admin socket: server.admin = false", "remove that line")
    for path in paths:
        try:
            return ask(path, method, target, timeout_s)
        except NobodyThere:
            continue
    raise NobodyThere(
        f"no gateway runs with this config: nobody answers at {paths[0]}",
        "start it with `gateway serve`; where it runs as another user, ask as that user or as root",
    )


def ask(socket_path: str, method: str, target: str, timeout_s: float = 30.0) -> tuple[int, bytes]:
    """Send a request to the gateway that listens there; the status and the content of its answer. Raises NotAnswered."""
    connection = _Connection(socket_path, timeout_s)
    try:
        connection.request(method, target)
        response = connection.getresponse()
        return response.status, response.read()
    except (FileNotFoundError, ConnectionRefusedError):
        raise NobodyThere(f"no gateway answers at {socket_path}", "start it with `gateway serve`") from None
    except PermissionError:
        owner = _owner(socket_path)
        raise NotAnswered(f"only {owner} may ask at {socket_path}", f"run it as {owner}, or as root") from None
    except TimeoutError:
        raise NotAnswered(f"no answer at {socket_path} within {timeout_s:g} s", "ask again, or see its log") from None
    except (OSError, http.client.HTTPException) as error:
        told = str(error) or type(error).__name__
        raise NotAnswered(f"the gateway at {socket_path} broke off: {told}", "see its log") from None
    finally:
        connection.close()


def _owner(path: str) -> str:
    """Whose socket it is, as far as we may see."""
    try:
        uid = os.stat(path).st_uid
    except OSError:
        return "root"
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("gateway", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
