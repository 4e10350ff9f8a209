"""The command line: a file a command, each with `add_parser` and `run`.

Promise: a mistake is one message and exit code 2, never a traceback (GATEWAY_DEBUG=1 shows it).
Is imported by nobody but `__main__.py`. Next: `serve.py`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
from collections.abc import Sequence

from gateway import __version__, is_compiled

COMMANDS = ("serve", "check", "reload", "restart", "upgrade", "status", "init", "explain", "call", "worker", "demo")
EPILOG = """\
without a command, the flags of `python -m http.server` and of its --cgi:
  python -m gateway [--cgi] [-b ADDRESS] [-d DIRECTORY] [PORT]
"""


def version() -> str:
    how = "compiled" if is_compiled() else "not compiled"
    return f"gateway-suite {__version__} ({how}, Python {platform.python_version()})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="gateway", description="Puts programs on the web over CGI, FastCGI, SCGI or HTTP, route by route.",
        epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=version())
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    if not given:
        parser.error("which command? `gateway serve` serves ./gateway.toml, or without one the current directory")
    for name in COMMANDS:
        importlib.import_module(f"gateway.cli.{name}").add_parser(subparsers)
    if _is_like_http_server(given):
        given = _from_http_server(given)
    args = parser.parse_args(given)
    try:
        return int(args.run(args))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get("GATEWAY_DEBUG"):
            raise
        print(
            f"gateway: this should not happen: {type(error).__name__}: {error}\n"
            "  run again with GATEWAY_DEBUG=1 for all of it, and please report it",
            file=sys.stderr,
        )
        return 1


def port_number(text: str) -> int:
    """A port given on the command line, for argparse."""
    if not text.isdecimal() or len(text) > 5 or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port: 0 to 65535")
    return int(text)


def _is_like_http_server(arguments: Sequence[str]) -> bool:
    """Whether these are the flags of `python -m http.server`: no command, but a port, --cgi or --directory."""
    if not arguments or arguments[0] in ("-h", "--help", "--version"):
        return False
    return arguments[0].startswith("-") or arguments[0].isdecimal()


def _from_http_server(arguments: Sequence[str]) -> list[str]:
    """The same as arguments of `serve` (http.server's own flags, with its defaults)."""
    parser = argparse.ArgumentParser(prog="python -m gateway")
    parser.add_argument("port", nargs="?", type=port_number, default=8000)
    parser.add_argument("--cgi", action="store_true")
    parser.add_argument("-b", "--bind", metavar="ADDRESS", default="")
    parser.add_argument("-d", "--directory", default=".")
    parser.add_argument("-p", "--protocol", default="HTTP/1.1", help="is HTTP/1.1 here, whatever is asked for")
    args = parser.parse_args(arguments)
    host = f"[{args.bind}]" if ":" in args.bind else args.bind
    return ["serve", args.directory, "--listen", f"{host}:{args.port}", *([] if args.cgi else ["--no-cgi"])]
