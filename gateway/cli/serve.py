"""`gateway serve`: take requests until told to stop.

Promise: a mistake is told in one message with exit code 2, and nothing has half-started.
Next: `gateway/server.py`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.config import Config

DEFAULT_CONFIG = "gateway.toml"


def add_parser(subparsers: Any) -> None:
    """Register the command with argparse."""
    parser = subparsers.add_parser(
        "serve",
        help="serve a config file, or a directory with its cgi-bin",
        description="Serves what a config file says. Given a directory, serves its files and runs what lies "
        "in its cgi-bin/: the successor to `python -m http.server --cgi`. SIGTERM finishes what is in flight.",
    )
    parser.add_argument(
        "what", nargs="?", metavar="CONFIG or DIRECTORY",
        help=f"default: ./{DEFAULT_CONFIG} if it exists, else the current directory",
    )  # fmt: skip
    parser.add_argument(
        "--listen", action="append", metavar="ADDRESS",
        help='instead of the config\'s: "127.0.0.1:8000", "[::1]:8000", "unix:/path"; may be repeated',
    )  # fmt: skip
    parser.add_argument("--no-cgi", action="store_true", help="of a directory: files only, run nothing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve; the exit code."""
    from gateway.config import ConfigError

    what = args.what or (DEFAULT_CONFIG if os.path.exists(DEFAULT_CONFIG) else ".")

    def read() -> Config:
        return load(what, *(args.listen or ()), cgi=not args.no_cgi)

    try:
        config = read()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return serve_config(config, read)


def load(what: str | None, *listen: str, cgi: bool = True) -> Config:
    """The config of a file or of a directory; None is what `gateway serve` takes then. Raises ConfigError."""
    from gateway.config import ConfigError, directory_config, load_config, parse_listen

    what = what or (DEFAULT_CONFIG if os.path.exists(DEFAULT_CONFIG) else ".")
    if os.path.isdir(what):
        return directory_config(what, parse_listen(*listen or ("127.0.0.1:8000",)), cgi=cgi)
    if not what.endswith(".toml"):  # what is to be said of a directory
        try:
            os.stat(what)
        except OSError as error:
            raise ConfigError(f"cannot be served: {error.strerror}", file=what) from None
    if not cgi:
        raise ConfigError("is for a directory; what a config file runs is said in it", key="--no-cgi")
    config = load_config(what)
    return config.with_listen(parse_listen(*listen)) if listen else config


def serve_config(config: Config, reread: Callable[[], Config]) -> int:
    """Serve a config that is already checked, telling the terminal what happens."""
    from gateway.errors import ServeError
    from gateway.server import serve

    def ready(names: list[str]) -> None:
        routes = len(config.routes)
        for name in names:
            print(f"serving {name} ({routes} route{'s' if routes != 1 else ''})", file=sys.stderr, flush=True)

    try:
        return serve(config, ready=ready, reread=reread)
    except ServeError as error:
        print(f"gateway: {error.what}\n  {error.remedy}", file=sys.stderr)
        return 2
