"""`gateway restart`: new workers for an application, while the gateway serves.

Promise: the old ones go once the new ones serve; where they do not, the old ones go on, and the exit code is 2.
Next: `reload.py`, how it is asked.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from gateway.cli.reload import add_config, tell


def add_parser(subparsers: Any) -> None:
    """Register the command with argparse."""
    parser = subparsers.add_parser(
        "restart",
        help="start an application anew, for new code",
        description="Has the gateway that runs with this config start new workers for an application. The old ones go once "
        "the new ones serve, and no request is lost; where the new ones do not serve, the old ones go on.",
    )
    parser.add_argument("app", metavar="APP", help="its name, as in [apps.NAME]")
    add_config(parser)
    parser.set_defaults(run=lambda args: tell(args.config, "/restart/" + quote(args.app)))
