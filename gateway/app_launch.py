"""How the processes of an application are started: command line, environment, user, limits.

Promise: a command line that anybody could type; what can't be granted is found before anything is started.
Must never know: sockets, supervisors, routes. Next: `apps.py`, which runs them; `processes/launch.py`, which starts one.

What a process can only do to itself is done by programs of the system in front of its own, each of which becomes the
next: nice, prlimit, setpriv. No shell has a part in it.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import sys
from pathlib import Path

import gateway
from gateway.config import App
from gateway.ends import Launch
from gateway.errors import ServeError

PATH = b"/usr/local/bin:/usr/bin:/bin"
_PACKAGES = {"nice": "coreutils", "prlimit": "util-linux", "setpriv": "util-linux"}
_OPTIONS = {"files": "nofile", "memory": "as", "processes": "nproc", "cpu": "cpu", "core": "core"}


def launch_of(app: App, command: list[bytes], stdin: int | None = None, more: dict[bytes, bytes] | None = None) -> Launch:
    """A process of the application. Raises ServeError."""
    words = as_told(app, command)
    return Launch(words[0], words, environment_of(app) | (more or {}), app.directory, stdin=stdin, umask=app.umask)


def environment_of(app: App) -> dict[bytes, bytes]:
    """The environment of its processes: made from nothing."""
    environment = {b"PATH": PATH}
    if app.kind != "command" and app.python == sys.executable:
        root = Path(gateway.__file__).resolve().parent.parent
        if root.name not in ("site-packages", "dist-packages"):  # we are not installed: a source tree, or a zip
            environment[b"PYTHONPATH"] = os.fsencode(root)
    return environment | dict(app.environment)


def hosting_command(app: App, interface: str) -> list[bytes]:
    """The command line that hosts a WSGI or ASGI application; its socket is on descriptor 0."""
    words = [app.python, "-P", "-m", "gateway", "worker", "--interface", interface, f"--{app.kind}"]
    if interface != "cgi":
        words += ["--bind", "fd:0", *app.hosting.options()]
    return [os.fsencode(word) for word in [*words, app.specifier]]


def as_told(app: App, command: list[bytes]) -> list[bytes]:
    """`command`, with the programs before it that do what is asked for. Raises ServeError."""
    words: list[bytes] = []
    if app.nice:
        if app.nice < 0 and os.geteuid() != 0:
            raise _not_granted(app, f"nice {app.nice}")
        words += [_program(app, "nice"), b"-n", b"%d" % app.nice]
    if app.rlimits:
        words.append(_program(app, "prlimit"))
        words += [f"--{_OPTIONS[name]}={value}:{value}".encode() for name, value in app.rlimits]
    words += _as_user(app)
    return [*words, *command]


def _as_user(app: App) -> list[bytes]:
    user = pwd.getpwnam(app.user) if app.user else None
    gid = grp.getgrnam(app.group).gr_gid if app.group else user.pw_gid if user is not None else os.getegid()
    if os.geteuid() != 0:
        if user is not None and user.pw_uid != os.geteuid():
            raise _not_granted(app, f"user {app.user!r}")
        if app.group and gid != os.getegid():
            raise _not_granted(app, f"group {app.group!r}")
        return []
    if user is None and not app.group:
        return []
    words = [_program(app, "setpriv"), b"--regid", b"%d" % gid]
    if user is None:
        return [*words, b"--clear-groups", b"--"]
    return [*words, b"--reuid", b"%d" % user.pw_uid, b"--init-groups", b"--"]


def _not_granted(app: App, what: str) -> ServeError:
    return ServeError(
        f"app {app.name!r} is to run as {what}, and the gateway may not do that: it runs with user id {os.geteuid()}"
        if what.startswith("user") else
        f"app {app.name!r} is to run with {what}, and the gateway may not do that: it runs with user id {os.geteuid()}",
        f"start it as root and without server.user, or remove the {what.partition(' ')[0]} of the app",
    )  # fmt: skip


def _program(app: App, name: str) -> bytes:
    path = shutil.which(name)
    if path is None:
        raise ServeError(
            f"app {app.name!r} needs the program `{name}`, and there is none", f"install {_PACKAGES[name]}"
        )
    return os.fsencode(path)


def check_cgroup(app: App) -> None:
    """Raises ServeError where its processes can't be put into the cgroup."""
    if app.cgroup is None or os.access(os.path.join(app.cgroup, "cgroup.procs"), os.W_OK):
        return
    there = os.path.exists(os.path.join(app.cgroup, "cgroup.procs"))
    raise ServeError(
        f"app {app.name!r}: its cgroup {app.cgroup} " + ("is not ours to use" if there else "is not there"),
        "Delegate=yes of systemd, or chown of its cgroup.procs" if there
        else f"mkdir {app.cgroup}, where cgroups of version 2 are mounted; or remove `cgroup`",
    )  # fmt: skip


def put_into_cgroup(app: App, pid: int) -> None:
    """Have a process, and all that it starts from now on, belong to the cgroup. Raises OSError."""
    if app.cgroup is not None:
        with open(os.path.join(app.cgroup, "cgroup.procs"), "w", encoding="ascii") as file:
            file.write(f"{pid}\n")
