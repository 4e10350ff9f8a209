"""`gateway demo`: the sample applications on all four interfaces, with a page that links them.

Promise: writes only to a temporary directory, or to the one named; ends what it started; what this
machine lacks is left out, and the page says what to install for it.
Must never know: how serving works. Next: `sample_apps/application.py`, which most routes lead to.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import util
from pathlib import Path
from typing import Any

from gateway.cli import port_number

HTTP_PORT = 9000
"""Where a config written for learning expects `http_server.py`."""

SCRIPTS_PATH = "/usr/local/bin:/usr/bin:/bin"
"""PATH of a CGI script: an interpreter that lies elsewhere is not found by `#!/usr/bin/env`."""


def add_parser(subparsers: Any) -> None:
    """Register the command with argparse."""
    parser = subparsers.add_parser(
        "demo",
        help="the sample applications on all four interfaces, with a page that links them",
        description="Serves the sample applications on 127.0.0.1 until Ctrl-C.",
    )
    parser.add_argument("--port", type=port_number, default=8000, help="where to listen on 127.0.0.1 (default 8000)")
    parser.add_argument(
        "--write", type=Path, metavar="DIRECTORY", help="do not serve: write the config and the samples there"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve or write the demo; the exit code: 2 for a mistake, told in one message."""
    from gateway.errors import ServeError

    if args.write is not None:
        return write(args.write, args.port)
    signal.signal(signal.SIGTERM, _stop)
    try:
        with tempfile.TemporaryDirectory(prefix="gateway-demo-") as name:
            directory = Path(name)
            missing = prepare(directory)
            with http_server(directory) as http_port:
                return serve(directory, args.port, http_port, missing)
    except ServeError as error:
        print(f"gateway: {error.what}\n  {error.remedy}", file=sys.stderr)
    except OSError as error:
        print(f"gateway: cannot write the demo: {error}", file=sys.stderr)
    return 2


def _stop(number: int, frame: object) -> None:
    """SIGTERM before the server has its own: leave, by way of all that removes what was made."""
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)


def serve(directory: Path, port: int, http_port: int, missing: Mapping[str, str]) -> int:
    """Serve until told to stop; the exit code. Raises ServeError."""
    from gateway.config import load_config
    from gateway.server import serve as serve_config

    path = directory / "gateway.toml"
    path.write_text(demo_config(port, http_port, missing))

    def ready(urls: list[str]) -> None:
        url = urls[0]
        print(f"\n  The demo is at  {url}  (Ctrl-C ends it)\n", flush=True)
        print(f"  its config      {path}")
        for route in ("cgi", "fastcgi", "scgi", "http"):
            if f'"/{route}/"' in path.read_text():
                print(f"  {route:<15} {url}{route}/")
        for text in missing.values():
            print(f"  left out: {text}")
        print(flush=True)

    try:
        return serve_config(load_config(str(path)), ready=ready)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the server's own is gone, and we are as good as gone


def write(directory: Path, port: int) -> int:
    path = directory / "gateway.toml"
    if path.exists():
        print(f"gateway: {path} exists already\n  name a directory without one", file=sys.stderr)
        return 2
    try:
        missing = prepare(directory)
        path.write_text(demo_config(port, HTTP_PORT, missing))
    except OSError as error:
        print(f"gateway: cannot write the demo: {error}", file=sys.stderr)
        return 2
    print(f"{sys.executable} {directory}/sample_apps/http_server.py {HTTP_PORT} &\ngateway serve {path}")
    return 0


def prepare(directory: Path) -> dict[str, str]:
    """Copy the samples below `directory` and compile what needs it. Raises OSError.

    Returns what this machine lacks: a word that page and config know -> a sentence on what to install.
    """
    found = util.find_spec("sample_apps")
    assert found is not None and found.submodule_search_locations
    samples = directory / "sample_apps"
    ignored = shutil.ignore_patterns("__pycache__", "__init__.py")
    shutil.copytree(found.submodule_search_locations[0], samples, ignore=ignored, dirs_exist_ok=True)
    scripts = samples / "cgi-bin"
    for script in (*scripts.glob("*.*"), samples / "hello.fcgi.pl"):
        if script.suffix != ".c":
            script.chmod(0o755)  # an installed package does not keep the mode of its files everywhere

    missing = {}
    if util.find_spec("flup") is None:
        missing["flup"] = "The FastCGI and SCGI workers need flup: pip install flup"
    if shutil.which("perl") is None:
        missing["perl"] = "The Perl scripts need perl (Debian: perl)"
    if not succeeds("perl", "-MFCGI", "-e", "1"):
        missing["perl-fcgi"] = "The Perl FastCGI worker needs the module FCGI (Debian: libfcgi-perl)"
    if shutil.which("python3", path=SCRIPTS_PATH) is None:
        missing["python"] = f"The Python scripts need a python3 in {SCRIPTS_PATH} (Debian: python3)"
    if not succeeds("cc", "-O2", "-o", str(scripts / "hello"), str(scripts / "hello.c")):
        missing["c"] = "The C program needs a C compiler (Debian: gcc libc6-dev)"
    script = samples / "public" / "demo.js"
    script.write_text(script.read_text().replace("missing = {};", f"missing = {json.dumps(missing)};"))
    return missing


def succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@contextmanager
def http_server(directory: Path) -> Iterator[int]:
    """The sample that is reached over HTTP: a process of its own, and the port it chose. Raises ServeError."""
    from gateway.errors import ServeError

    program = directory / "sample_apps" / "http_server.py"
    with ExitStack() as stack:
        with _signals_later():
            # A session of its own: Ctrl-C is for us, and we end it when we have finished what is in flight.
            process = stack.enter_context(
                subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True, start_new_session=True)
            )
            stack.callback(process.terminate)
        assert process.stdout is not None
        url = process.stdout.readline()
        if not url:
            raise ServeError(f"{program} ended at once", "its message is above")
        yield int(url.rstrip("/\n").rpartition(":")[2])


@contextmanager
def _signals_later() -> Iterator[None]:
    """A signal between the start of a process and the note that it is to be ended would leave it behind."""
    came: list[int] = []
    before = {one: signal.signal(one, lambda number, _: came.append(number)) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        for number in came[:1]:
            signal.raise_signal(number)


CONFIG = """\
# The demo: one WSGI application, reached over four interfaces. `gateway check` explains this file.

[server]
listen = ["127.0.0.1:{port}"]

[[routes]]
path = "/"
interface = "static"
root = "sample_apps/public"

# A process for each request, from a directory of scripts.
[[routes]]
path = "/cgi-bin/"
interface = "cgi"
root = "sample_apps/cgi-bin"

# From here on: one application, four interfaces.
[[routes]]
path = "/cgi/"
interface = "cgi"
script = "sample_apps/cgi-bin/wsgi.py"

# Started beforehand: {python} sample_apps/http_server.py {http_port}
[[routes]]
path = "/http/"
interface = "http"
address = "127.0.0.1:{http_port}"
strip_prefix = true
"""

FLUP = """
[[routes]]
path = "/fastcgi/"
interface = "fastcgi"
app = "flup-fastcgi"

[[routes]]
path = "/scgi/"
interface = "scgi"
app = "flup-scgi"

# Workers that the gateway starts, restarts and ends. They get their listening socket on descriptor 0.
[apps.flup-fastcgi]
command = [{python}, "sample_apps/flup_fastcgi.py"]
interface = "fastcgi"
workers = 1

[apps.flup-scgi]
command = [{python}, "sample_apps/flup_scgi.py"]
interface = "scgi"
workers = 1
"""

PERL = """
# One request at a time each, so there are two.
[[routes]]
path = "/perl/"
interface = "fastcgi"
app = "perl"

[apps.perl]
command = ["sample_apps/hello.fcgi.pl"]
interface = "fastcgi"
workers = 2
"""


def demo_config(port: int, http_port: int, missing: Mapping[str, str]) -> str:
    """The demo's config as TOML; its paths are relative to its own directory."""
    parts = [CONFIG.format(port=port, http_port=http_port, python=sys.executable)]
    if "flup" not in missing:
        parts.append(FLUP.format(python=json.dumps(sys.executable)))
    if "perl-fcgi" not in missing:
        parts.append(PERL)
    return "".join(parts)
