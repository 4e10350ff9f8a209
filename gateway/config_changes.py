"""What two configs differ in: in words, with the keys of the file.

Promise: pure; each difference is told once, with what was and what is; what a running server can't change is told
apart, with the reason and what to do instead.
Must never know: sockets, processes, how a change is made. Next: `reloading.py`, which makes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.concurrency import stays
from gateway.config import App, Config, Route
from gateway.config_values import place_name
from gateway.models import Hosting

SHOWN = 200
"""Characters of a value that are shown."""


@dataclass
class Changes:
    """`told` is for people, a line each; `refused` likewise, where the new config can't be had by a reload."""

    told: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.told or self.refused)


def compare(old: Config, new: Config) -> Changes:
    """What comes of it when a server with the `old` config is given the `new` one."""
    changes = Changes()
    before, after = _server(old), _server(new)
    changes.told += _listen(old, new)
    for key, value in after.items():
        if line := _pair(key, before[key], value):
            if key in _FIXED:
                changes.refused.append(f"{line}: {_FIXED[key]}")
            else:
                changes.told.append(line)
    changes.refused += _model(old.server.hosting, new.server.hosting)
    changes.told += filter(None, [_routes(old.routes, new.routes)])
    changes.told += _apps(old.apps, new.apps)
    return changes


_RESTART = "a running gateway can't change it: restart it"
_UPGRADE = "a running gateway can't change it: `gateway upgrade` starts another one in its place"
_FIXED = {"server.user": _RESTART, "server.admin": _UPGRADE}


def _model(old: Hosting, new: Hosting) -> Iterator[str]:
    """A process that serves by itself has threads, or a loop, and can't become one that forks; nor the other way."""
    if stays(old) is stays(new) and (old.concurrency == new.concurrency or (_forks(old) and _forks(new))):
        return
    key = "concurrency" if old.concurrency != new.concurrency else "processes"
    yield f"server.{key} {getattr(old, key)} -> {getattr(new, key)}: {_UPGRADE}"


def _forks(hosting: Hosting) -> bool:
    return hosting.concurrency != "thread" and not stays(hosting)


def _server(config: Config) -> dict[str, Any]:
    """The values of [server] and [log] by key."""
    server = config.server
    hosting = server.hosting
    found: dict[str, Any] = {
        "server.user": server.user, "server.admin": server.admin, "server.http": server.http,
        "server.trusted_proxies": tuple(map(str, server.trusted_proxies)), "server.grace": _seconds(server.grace_s),
        "server.concurrency": hosting.concurrency, "server.processes": hosting.processes,
        "server.threads": hosting.threads,
    }  # fmt: skip
    for name in hosting.children.__struct_fields__:
        found[f"server.children.{name}"] = getattr(hosting.children, name)
    for name in server.limits.__struct_fields__:
        value = getattr(server.limits, name)
        found[f"server.limits.{name}"] = value if name in ("header_count", "connections") else _size(value)
    for name in server.timeouts.__struct_fields__:
        found[f"server.timeouts.{name.removesuffix('_s')}"] = _seconds(getattr(server.timeouts, name))
    for name in config.log.__struct_fields__:
        found[f"log.{name}"] = getattr(config.log, name)
    return found


def _listen(old: Config, new: Config) -> Iterator[str]:
    before, after = list(map(place_name, old.server.listen)), list(map(place_name, new.server.listen))
    parts = [f"{one} added" for one in after if one not in before]
    parts += [f"{one} removed" for one in before if one not in after]
    if parts:
        yield "server.listen: " + ", ".join(parts)
    elif before != after:
        yield f"server.listen {' '.join(before)} -> {' '.join(after)}"


# ---------------------------------------------------------------------- values


def _fields(
    old: Any, new: Any, special: Mapping[str, tuple[str, Callable[[Any], Any]]], left_out: Iterable[str]
) -> Iterator[str]:
    for name in old.__struct_fields__:
        before, after = getattr(old, name), getattr(new, name)
        if name in left_out or before == after:
            continue
        if name == "environment":  # a value may be a password
            variables = sorted({variable for variable, _ in set(before) ^ set(after)})
            yield f"environment {' '.join(map(_text, variables)) or 'in another order'}"
            continue
        key, shown = special.get(name, (name, lambda value: value))
        yield _pair(key, shown(before), shown(after)) or f"{key} changed"


def _pair(key: str, old: Any, new: Any) -> str:
    if old == new:
        return ""
    return f"{key} {_text(old)} -> {_text(new)}"


def _text(value: Any) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, tuple):
        value = " ".join(map(_text, value))
    text = str(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def _seconds(value: float) -> str:
    return "0" if not value or math.isinf(value) else f"{value:g}s"


def _size(octets: int) -> str:
    for name, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if octets and octets % size == 0:
            return f"{octets // size}{name}"
    return str(octets)


# ---------------------------------------------------------------------- routes

_OF_ROUTES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "connect_s": ("timeouts.connect", _seconds),
    "response_s": ("timeouts.response", _seconds),
    "read_s": ("timeouts.read", _seconds),
    "total_s": ("timeouts.total", _seconds),
    "content_limit": ("limits.content", _size),
    "addresses": ("address", lambda value: " ".join(map(str, value))),
}
_NOT_SAID = ("number", "line", "path", "match", "hosts", "methods")
"""Where a route stands, and what it is known by."""


def _routes(old: Iterable[Route], new: Iterable[Route]) -> str:
    before, after = _by_name(old), _by_name(new)
    parts = [f"{name} added" for name in after if name not in before]
    parts += [f"{name} removed" for name in before if name not in after]
    for name, route in after.items():
        if name in before and (found := list(_fields(before[name], route, _OF_ROUTES, _NOT_SAID))):
            parts.append(f"{name} changed ({', '.join(found)})")
    kept = [name for name in before if name in after]
    if kept != [name for name in after if name in before]:
        parts.append("their order changed")
    return "routes: " + ", ".join(parts) if parts else ""


def _by_name(routes: Iterable[Route]) -> dict[str, Route]:
    found: dict[str, Route] = {}
    for route in routes:
        name = route.path
        for more in (route.hosts, sorted(route.methods)):
            if more:
                name += " of " + " ".join(one.decode("latin-1") for one in more)
        again = 1
        while (key := name if again == 1 else f"{name} ({again})") in found:
            again += 1
        found[key] = route
    return found


# ---------------------------------------------------------------------- apps

_OF_APPS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "command": ("command", lambda value: " ".join(map(_text, value))),
    "hosting": ("workers", str),
    "staff": ("workers", str),
}


def _apps(old: Mapping[str, App], new: Mapping[str, App]) -> Iterator[str]:
    for name in old.keys() - new.keys():
        yield f"apps.{name} removed"
    for name, app in new.items():
        if name not in old:
            yield f"apps.{name} added"
        elif app != old[name]:
            found = ", ".join(_fields(old[name], app, _OF_APPS, ("name",)))
            yield f"apps.{name} changed ({found}): restarted"
