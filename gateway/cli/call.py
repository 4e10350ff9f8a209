"""`gateway call`: one request to a worker or script, as a web server would send it.

Promise: the exit code tells refused, busy, slow, broken, not found and failed apart.
Must never know: how it is done. Next: `gateway/client.py`.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.client import Result

EPILOG = """\
targets:
  fastcgi://127.0.0.1:9000/path?query    a FastCGI worker, e.g. php-fpm
  scgi://127.0.0.1:5000/path             an SCGI worker
  http://127.0.0.1:8080/path             an HTTP server
  fastcgi+unix:///run/app.sock           a unix socket (also scgi+unix, http+unix); the path: --path
  cgi:cgi-bin/hello.sh                   a CGI script, run here

exit codes:
  0  a response with a status up to --max-status
  2  the call itself is wrong
  3  refused: nobody listens there, or the script can't be run
  4  busy: connecting took too long, the backlog is full, or the worker says OVERLOADED
  5  too slow: no whole response within --timeout
  6  protocol error: what came is no response
  7  not found: the worker answers 404, e.g. "Primary script unknown"
  8  another status above --max-status

The status page of php-fpm:
  gateway call fastcgi://127.0.0.1:9000/status --script-filename /status
"""


def add_parser(subparsers: Any) -> None:
    """Register the command with argparse."""
    parser = subparsers.add_parser(
        "call",
        help="speak to a worker or script directly, as a web server would",
        description="Sends one request to a worker or a CGI script and prints what it answers.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("target", metavar="TARGET", help="whom to call, see below")
    add("-X", "--method", metavar="METHOD", help="default: GET, or POST with -d")
    add("-H", "--field", action="append", default=[], metavar="'NAME: VALUE'", help="field line; repeatable")
    add("-d", "--content", metavar="TEXT or @FILE", help="content of the request; @- reads standard input")
    add("-i", "--include", action="store_true", help="print the head of the response too")
    add("-v", "--verbose", action="store_true", help="meta-variables and records, on standard error")
    add("-o", "--output", metavar="FILE", help="write the content of the response to a file")
    add("-f", "--fail", action="store_true", help="print no content of a failed response")
    add("--max-status", type=int, default=399, metavar="N", help="highest status that is success (399)")
    add("--timeout", type=float, default=10.0, metavar="S", help="seconds for everything together (10)")
    add("--path", metavar="PATH", help="path and query, where the target has no place for them")
    add("-e", "--env", action="append", default=[], metavar="NAME=VALUE", help="a meta-variable; repeatable")
    add("--root", metavar="DIRECTORY", help="document root: SCRIPT_FILENAME is DIRECTORY + path")
    add("--script-filename", metavar="FILE", help="SCRIPT_FILENAME; SCRIPT_NAME is the path")
    add("--script-name", metavar="PREFIX", help="SCRIPT_NAME; PATH_INFO is the rest of the path")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Make the call; the exit code."""
    from gateway.client import CallError, Outcome, call

    try:
        fields = [_split(text, ":", "-H 'Name: value'") for text in args.field]
        environment = [_split(text, "=", "-e NAME=VALUE") for text in args.env]
        content = _content(args.content)
        if args.content is not None and not any(name.lower() == b"content-type" for name, _ in fields):
            fields.append((b"Content-Type", b"application/x-www-form-urlencoded"))
    except (ValueError, OSError) as error:
        print(f"gateway call: {error}", file=sys.stderr)
        return Outcome.USAGE
    try:
        result = call(
            args.target, method=args.method or ("GET" if args.content is None else "POST"), path=args.path,
            fields=fields, content=content, environment=environment, script_name=args.script_name,
            script_filename=args.script_filename, root=args.root, timeout_s=args.timeout,
        )  # fmt: skip
    except CallError as error:
        if args.verbose:
            _show(error.records)
        _print_stderr(error.stderr)
        remedy = f"\n  {error.remedy}" if error.remedy else ""
        print(f"gateway call: {error.what}{remedy}", file=sys.stderr)
        return error.outcome
    if args.verbose:
        _show([f"{_text(name)}={_text(value)}" for name, value in result.variables.items()])
        _show(result.records)
    outcome = result.outcome(args.max_status)
    try:
        _print(result, args, quiet=args.fail and outcome is not Outcome.OK)
    except OSError as error:
        print(f"gateway call: {error}", file=sys.stderr)
        return Outcome.USAGE
    if outcome is not Outcome.OK:
        print(f"gateway call: status {result.status} {_text(result.reason)}", file=sys.stderr)
        if outcome is Outcome.NOT_FOUND and result.variables:
            filename = _text(result.variables.get(b"SCRIPT_FILENAME", b"(none)"))
            print(f"  SCRIPT_FILENAME was {filename}: see --root, --script-filename", file=sys.stderr)
    return outcome


def _split(text: str, separator: str, form: str) -> tuple[bytes, bytes]:
    name, found, value = text.partition(separator)
    if not found or not name:
        raise ValueError(f"{text!r} is not of the form {form}")
    return os.fsencode(name), os.fsencode(value.strip() if separator == ":" else value)


def _content(text: str | None) -> bytes:
    if text is None or not text.startswith("@"):
        return os.fsencode(text or "")
    if text == "@-":
        return sys.stdin.buffer.read()
    with open(text[1:], "rb") as file:
        return file.read()


def _text(octets: bytes) -> str:
    """Octets for a terminal: what is not printable is escaped."""
    text = octets.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _show(lines: list[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)


def _print_stderr(stderr: bytes) -> None:
    for line in stderr.splitlines():
        print(f"stderr: {_text(line)}", file=sys.stderr)


def _print(result: Result, args: argparse.Namespace, *, quiet: bool) -> None:
    _print_stderr(result.stderr)
    if result.app_status:
        print(f"exit status: {result.app_status}", file=sys.stderr)
    out = sys.stdout.buffer
    if args.include:
        out.write(b"HTTP/1.1 %d %b\r\n" % (result.status, result.reason))
        out.write(b"".join([b"%b: %b\r\n" % line for line in result.fields]) + b"\r\n")
    if not quiet:
        if args.output:
            with open(args.output, "wb") as file:
                file.write(result.content)
        else:
            out.write(result.content)
    out.flush()
