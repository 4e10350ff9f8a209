"""Three servers with four PHP workers each, and how somebody breaks or changes them: what `faults.py` compares.

Promise: every server answers the same page with the same program (php-cgi, or php-fpm behind nginx); a change is
made as its manual says, and a fault strikes the same thing everywhere.
Must never know: who asks meanwhile. Next: `faults.py`.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable
from glob import glob
from pathlib import Path
from typing import Final

from benchmarks import process_tree, running
from benchmarks.servers import GATEWAY, nginx_params

WORKERS: Final = 4
RECYCLED_AFTER: Final = 100
"""Requests after which a worker ends, where that is what is looked at."""
HANGS_S: Final = 1
"""So long a request may occupy a worker, where a server has such a bound."""
PAGE: Final = """<?php
$content = file_get_contents('php://input');
header('Content-Type: text/plain');
echo trim("{$_SERVER['REQUEST_METHOD']} {$_SERVER['QUERY_STRING']} $content");
"""


class Unable(Exception):
    """The server has nothing of the kind."""


class Server:
    """One of them, started; `where` is a directory of its own."""

    name: str
    workers: Iterable[str]
    """What the processes of its workers are called (comm)."""
    fronts: Iterable[str]
    """Likewise those that clients speak to."""

    def __init__(self, stack: contextlib.ExitStack, where: Path, *, requests: int = 0) -> None:
        """`requests`: a worker ends after so many. Raises CannotStart."""
        self.where = where
        self.where.mkdir(exist_ok=True)
        self.requests = requests
        self.port = running.free_port()
        (where / "page.php").write_text(PAGE)
        self.start(stack)

    def start(self, stack: contextlib.ExitStack) -> None:
        raise NotImplementedError

    def run(self, stack: contextlib.ExitStack, name: str, command: list[str], listens: tuple[str, int] | str) -> int:
        """The process id of a program, once it listens."""
        cores = sorted(os.sched_getaffinity(0))
        program = running.Running(command, cores, self.where / f"{name}.stderr")
        stack.callback(program.stop)
        program.await_listening(name, listens)
        return program.pid

    def pids(self, called: Iterable[str]) -> list[int]:
        """Processes of this server by their names, those that have others under them left out."""
        found = [one for root in self.roots() for one in process_tree.family(root)]
        return [one.pid for one in found if comm(one.pid) in called and one.pid not in self.roots()]

    def roots(self) -> list[int]:
        raise NotImplementedError

    # ------------------------------------------------------------------ changes, as its manual says

    def reload(self) -> None:
        """Read the config again."""
        raise Unable

    def restart(self) -> None:
        """New code for the application: new workers."""
        raise Unable

    def upgrade(self) -> None:
        """A new program takes over the clients."""
        raise Unable


def end(pid: int) -> None:
    """SIGTERM, if it is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


class Gateway(Server):
    """Two loops, and a pool of its own."""

    name = "gateway"
    workers = ("php-cgi",)
    fronts = ("gateway", "python", "python3", "python3.11", "python3.12", "python3.13")

    def start(self, stack: contextlib.ExitStack) -> None:
        recycled = f", requests = {self.requests}" if self.requests else ""
        self.config = self.where / "gateway.toml"
        self.config.write_text(f"""
[server]
listen = ["127.0.0.1:{self.port}"]
processes = 2
admin = "unix:{self.where}/admin.sock"
[log]
access = false
[[routes]]
path = "/"
interface = "fastcgi"
app = "php"
root = "{self.where}"
split = ".php"
[apps.php]
command = ["php-cgi"]
interface = "fastcgi"
workers = {{ min = {WORKERS}, max = {WORKERS}, busy = "{HANGS_S}s"{recycled} }}
""")
        self.pid = self.run(stack, "gateway", [*GATEWAY, "serve", str(self.config)], ("127.0.0.1", self.port))
        stack.callback(lambda: end(self.pid))  # of an upgrade: nobody here has started that one

    def roots(self) -> list[int]:
        return [self.pid]

    def reload(self) -> None:
        subprocess.run([*GATEWAY, "reload", str(self.config)], check=True, capture_output=True, timeout=60)

    def restart(self) -> None:
        subprocess.run([*GATEWAY, "restart", "php", str(self.config)], check=True, capture_output=True, timeout=60)

    def upgrade(self) -> None:
        words = [*GATEWAY, "upgrade", str(self.config)]
        told = subprocess.run(words, check=True, capture_output=True, timeout=60, text=True).stdout
        self.pid = int(re.search(r"process (\d+) has taken", told)[1])  # type: ignore[index]


class NginxFpm(Server):
    """nginx with two workers, php-fpm with four."""

    name = "nginx-fpm"
    workers = ("php-fpm8.2", "php-fpm8.3", "php-fpm8.4", "php-fpm")
    fronts = ("nginx",)

    def start(self, stack: contextlib.ExitStack) -> None:
        user = getpass.getuser()
        socket = self.where / "fpm.sock"
        fpm = self.where / "fpm.conf"
        fpm.write_text(f"""
[global]
daemonize = no
error_log = {self.where}/fpm.log
process_control_timeout = 10s
[www]
user = {user}
group = {user}
listen = {socket}
listen.owner = {user}
pm = static
pm.max_children = {WORKERS}
pm.max_requests = {self.requests}
request_terminate_timeout = {HANGS_S}s
""")
        program = Path(max(glob("/usr/sbin/php-fpm*") or ["php-fpm"])).name
        root = ["--allow-to-run-as-root"] if os.geteuid() == 0 else []
        self.fpm = self.run(stack, "php-fpm", [program, "--nodaemonize", *root, "-y", str(fpm)], str(socket))
        first = f"user {user};" if os.geteuid() == 0 else ""
        config = self.where / "nginx.conf"
        config.write_text(f"""
{first} worker_processes 2; daemon off; pid {self.where}/nginx.pid; error_log {self.where}/nginx.log crit;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {self.where}/body; fastcgi_temp_path {self.where}/fastcgi;
  proxy_temp_path {self.where}/proxy; scgi_temp_path {self.where}/scgi; uwsgi_temp_path {self.where}/uwsgi;
  upstream php {{ server unix:{socket}; keepalive 8; }}
  server {{ listen 127.0.0.1:{self.port}; root {self.where};
    location / {{ fastcgi_pass php; fastcgi_keep_conn on; {nginx_params("fastcgi")}
      fastcgi_param SCRIPT_FILENAME {self.where}/page.php; }} }}
}}""")
        command = ["nginx", "-p", str(self.where), "-c", str(config), "-e", str(self.where / "nginx.log")]
        self.nginx = self.run(stack, "nginx", command, ("127.0.0.1", self.port))

    def roots(self) -> list[int]:
        return [self.nginx, self.fpm]

    def reload(self) -> None:
        os.kill(self.nginx, signal.SIGHUP)

    def restart(self) -> None:
        os.kill(self.fpm, signal.SIGUSR2)


class Lighttpd(Server):
    """lighttpd that starts its workers itself."""

    name = "lighttpd"
    workers = ("php-cgi",)
    fronts = ("lighttpd",)

    def start(self, stack: contextlib.ExitStack) -> None:
        config = self.where / "lighttpd.conf"
        recycled = f'"PHP_FCGI_MAX_REQUESTS" => "{self.requests or 1_000_000}"'
        config.write_text(f"""
server.modules = ( "mod_fastcgi" )
server.bind = "127.0.0.1"
server.port = {self.port}
server.document-root = "{self.where}"
server.errorlog = "{self.where}/lighttpd.log"
server.upload-dirs = ( "{self.where}" )
fastcgi.server = ( ".php" => (( "socket" => "{self.where}/php.sock", "bin-path" => "{shutil.which("php-cgi")}",
  "max-procs" => {WORKERS}, "bin-environment" => ( "PHP_FCGI_CHILDREN" => "0", {recycled} ) )) )
""")
        self.pid = self.run(stack, "lighttpd", ["lighttpd", "-D", "-f", str(config)], ("127.0.0.1", self.port))

    def roots(self) -> list[int]:
        return [self.pid]


SERVERS: Final[dict[str, Callable[..., Server]]] = {one.name: one for one in (Gateway, NginxFpm, Lighttpd)}
