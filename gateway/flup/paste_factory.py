"""Servers for PasteDeploy: `paste.server_runner = gateway.flup.paste_factory:run_fcgi_thread` in a `[server:main]` section.

Promise: the names and the meaning of flup's settings, all of which are text there.
Must never know: how they are served. Next: `fcgi.py`, `fcgi_fork.py`, `scgi.py`, `scgi_fork.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.flup import fcgi, fcgi_fork, scgi, scgi_fork
from gateway.flup.listening import BindAddress
from gateway.flup.serving import NoDefault

WORDS = {"true": True, "yes": True, "on": True, "y": True, "t": True, "1": True,
         "false": False, "no": False, "off": False, "n": False, "f": False, "0": False}  # fmt: skip
Settings = Mapping[str, Any]


def run_fcgi_thread(wsgi_app: Any, global_conf: Settings, **settings: Any) -> None:
    """host and port, or socket, else descriptor 0; umask, multiplexed, debug, minSpare, maxSpare, maxThreads."""
    _fcgi(fcgi.WSGIServer, wsgi_app, global_conf, settings, ("minSpare", "maxSpare", "maxThreads"))


def run_fcgi_fork(wsgi_app: Any, global_conf: Settings, **settings: Any) -> None:
    """Likewise, with maxChildren and maxRequests in place of maxThreads."""
    _fcgi(fcgi_fork.WSGIServer, wsgi_app, global_conf, settings, ("minSpare", "maxSpare", "maxChildren", "maxRequests"))


def run_scgi_thread(wsgi_app: Any, global_conf: Settings, **settings: Any) -> None:
    """host (localhost), port (4000), scriptName, allowedServers (127.0.0.1), debug, minSpare, maxSpare, maxThreads."""
    _scgi(scgi.WSGIServer, wsgi_app, global_conf, settings, ("minSpare", "maxSpare", "maxThreads"))


def run_scgi_fork(wsgi_app: Any, global_conf: Settings, **settings: Any) -> None:
    """Likewise, with maxChildren and maxRequests in place of maxThreads."""
    _scgi(scgi_fork.WSGIServer, wsgi_app, global_conf, settings, ("minSpare", "maxSpare", "maxChildren", "maxRequests"))


def _fcgi(server: Any, app: Any, shared: Settings, settings: dict[str, Any], names: tuple[str, ...]) -> None:
    path, host, port = (settings.pop(name, None) for name in ("socket", "host", "port"))
    if path and (host or port):
        raise ValueError(f"socket = {path}, and host or port: the server listens at one of them only")
    if bool(host) is not bool(port):
        raise ValueError("host and port belong together")
    bind: BindAddress = path or ((host, int(port)) if host else None)
    umask = settings.pop("umask", None)
    given = _common(shared, settings, names, multiplexed=_is_true(settings.pop("multiplexed", False)))
    server(app, bindAddress=bind, umask=None if umask is None else int(umask), **given).run()


def _scgi(server: Any, app: Any, shared: Settings, settings: dict[str, Any], names: tuple[str, ...]) -> None:
    bind = settings.pop("host", "localhost"), int(settings.pop("port", 4000))
    allowed = settings.pop("allowedServers", "127.0.0.1")
    given = _common(shared, settings, names, scriptName=settings.pop("scriptName", NoDefault))
    server(app, bindAddress=bind, allowedServers=allowed.split() if isinstance(allowed, str) else allowed, **given).run()


def _common(shared: Settings, settings: dict[str, Any], names: tuple[str, ...], **given: Any) -> dict[str, Any]:
    given["debug"] = _is_true(settings.pop("debug", shared.get("debug", False)))
    given.update({name: int(settings.pop(name)) for name in names if settings.get(name) is not None})
    unknown = [name for name in settings if name not in names]
    if unknown:
        raise TypeError(f"{', '.join(unknown)}: no such setting; there are {', '.join(names)} and those of the address")
    return given


def _is_true(value: Any) -> bool:
    if isinstance(value, str):
        word = value.strip().lower()
        if word not in WORDS:
            raise ValueError(f"{value!r} is neither true nor false")
        return WORDS[word]
    return bool(value)
