"""`gateway upgrade`: another gateway in place of the one that runs, for a new version of the program.

Promise: it gets the listening sockets, and no request is lost; where it does not start, the old one goes on.
Next: `reload.py`, how it is asked; `gateway/upgrade.py`, what happens then.
"""

from __future__ import annotations

from typing import Any

from gateway.cli.reload import add_config, tell


def add_parser(subparsers: Any) -> None:
    """Register the command with argparse."""
    parser = subparsers.add_parser(
        "upgrade",
        help="have another gateway take the place of the one that runs",
        description="Has the gateway that runs with this config start another one, with the same command line, the program "
        "and the config as they are now, and the same listening sockets. Once that serves, the old one finishes what it has "
        "and ends. For a new version of the program, and for what a reload can't change. SIGUSR2 does the same.",
    )
    add_config(parser)
    parser.set_defaults(run=lambda args: tell(args.config, "/upgrade"))
