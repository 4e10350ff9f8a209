"""`gateway reload`: have a running gateway read its config again.

Promise: exit code 0, and what has changed; 2, and what to mend, where the old config goes on.
Next: `gateway/reloading.py`, what happens then; `gateway/admin_client.py`, how it is asked.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

PATIENCE_S = 120.0
"""New workers may take their time."""


def add_parser(subparsers: Any) -> None:
    """Register the command with argparse."""
    parser = subparsers.add_parser(
        "reload",
        help="have a running gateway read its config again",
        description="Has the gateway that runs with this config read it again, without losing a request. Tells what has "
        "changed. Where the config has a mistake the old one goes on, and the exit code is 2. SIGHUP does the same.",
    )
    add_config(parser)
    parser.set_defaults(run=lambda args: tell(args.config, "/reload"))


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", metavar="CONFIG or DIRECTORY", help="as of `gateway serve`")


def tell(config: str | None, target: str) -> int:
    """Ask the gateway to do something, and show what it answers; the exit code."""
    from gateway.admin_client import NotAnswered, ask_one_of
    from gateway.cli.status import explained, sockets
    from gateway.config import ConfigError

    try:
        status, text = ask_one_of(sockets(config), "POST", target, PATIENCE_S)
    except (ConfigError, NotAnswered) as error:
        print(explained(error), file=sys.stderr)
        return 2
    print(text.decode(errors="replace"), end="", file=sys.stdout if status == 200 else sys.stderr)
    return 0 if status == 200 else 2
