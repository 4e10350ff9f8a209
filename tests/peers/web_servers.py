"""nginx, lighttpd and Apache httpd before workers of ours: each with a config, a port and a folder of its own."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from glob import glob
from pathlib import Path
from typing import ClassVar, NamedTuple

from tests.conftest import ROOT, eventually, needs

APPLICATIONS = Path(__file__).parent / "applications"
HOST = "127.0.0.1"


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that is everybody's: Apache httpd does not serve as root, and pytest's folders are ours alone."""
    directory = Path(tempfile.mkdtemp(prefix="gateway-tests-"))
    directory.chmod(0o777)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
    return port


def connects(address: str) -> bool:
    """Whether somebody listens at unix:PATH or HOST:PORT."""
    if address.startswith("unix:"):
        with socket.socket(socket.AF_UNIX) as sock:
            return sock.connect_ex(address[5:]) == 0
    host, _, port = address.rpartition(":")
    with socket.socket() as sock:
        return sock.connect_ex((host, int(port))) == 0


class Worker:
    """`gateway worker`, or another command for it, and its log."""

    def __init__(
        self, log: Path, address: str, arguments: Sequence[str], *, command: Sequence[str] = (), **environment: str
    ) -> None:
        self.log_file = log
        self.address = address
        words = [*command, sys.executable, "-m", "gateway", "worker", *arguments]
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                words, cwd=APPLICATIONS, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            )  # fmt: skip

    def wait(self) -> Worker:
        """Until it listens, for everybody."""

        def listens() -> bool:
            assert self.process.poll() is None, f"the worker ended: {self.log()}"
            return connects(self.address)

        eventually(listens, "the start of a worker")
        if self.address.startswith("unix:"):
            os.chmod(self.address[5:], 0o666)
        return self

    def log(self) -> str:
        return self.log_file.read_text()

    def wait_for_log(self, text: str) -> None:
        eventually(lambda: text in self.log(), f"{text!r} in the log of the worker")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()
        assert code == 0, self.log()
        assert "defect:" not in self.log(), self.log()


class Mount(NamedTuple):
    """A worker as a web server knows it."""

    path: str
    interface: str
    address: str
    kept: bool = False
    """Whether connections are kept for further requests, and nginx buffers."""
    more: str = ""
    """Further lines in the web server's own words."""

    @property
    def name(self) -> str:
        return self.path.strip("/") or "root"


class WebServer:
    """One that runs in the foreground until `stop`."""

    program: ClassVar[str]

    def __init__(self, directory: Path, mounts: Sequence[Mount], more: str = "") -> None:
        self.directory = directory
        (self.directory / "www").mkdir(parents=True)
        (self.directory / "www" / "file.txt").write_text("a file")
        program = needs(self.program)
        for _ in range(3):
            self.port = free_port()
            self.url = f"http://{HOST}:{self.port}"
            (self.directory / "conf").write_text(self.config(mounts, more))
            with (self.directory / "stderr").open("wb") as stderr:
                self.process = subprocess.Popen(
                    [program, *self.arguments()], stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr
                )
            eventually(lambda: self.process.poll() is not None or connects(f"{HOST}:{self.port}"), "its start")
            if self.process.poll() is None:
                return
            if "in use" not in self.log():  # somebody else was given the port in the meantime
                break
        raise AssertionError(f"{self.program} did not start: {self.log()}")

    def config(self, mounts: Sequence[Mount], more: str) -> str:
        raise NotImplementedError

    def arguments(self) -> list[str]:
        return ["-f", str(self.directory / "conf")]

    def log(self) -> str:
        return "".join(path.read_text(errors="replace") for path in (self.directory / "stderr", self.directory / "log")
                       if path.exists())  # fmt: skip

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


PARAMS = {
    "REQUEST_METHOD": "$request_method", "REQUEST_URI": "$request_uri", "QUERY_STRING": "$query_string",
    "CONTENT_TYPE": "$content_type", "CONTENT_LENGTH": "$content_length", "SERVER_PROTOCOL": "$server_protocol",
    "SERVER_NAME": "$server_name", "SERVER_PORT": "$server_port", "REMOTE_ADDR": "$remote_addr",
    "REMOTE_PORT": "$remote_port", "SCRIPT_NAME": "$script", "PATH_INFO": "$info", "REQUEST_SCHEME": "$scheme",
}  # fmt: skip


class Nginx(WebServer):
    program = "nginx"

    def arguments(self) -> list[str]:
        return ["-c", str(self.directory / "conf"), "-e", str(self.directory / "log")]

    def config(self, mounts: Sequence[Mount], more: str) -> str:
        d = self.directory
        temporary = " ".join(f"{name}_temp_path {d}/t;" for name in ("client_body", "proxy", "fastcgi", "scgi", "uwsgi"))
        upstreams = "".join(
            f"upstream {one.name} {{ server {one.address}; {'keepalive 4;' * one.kept} }}\n" for one in mounts
        )
        locations = "".join(map(self.location, mounts))
        return (
            f"daemon off; master_process off; pid {d}/pid; events {{ }}\n"
            f"http {{ access_log off; client_max_body_size 100m; {temporary}\n{upstreams}"
            f"server {{ listen {HOST}:{self.port}; server_name localhost; root {d}/www;\n{locations}{more}}} }}\n"
        )

    def location(self, mount: Mount) -> str:
        where = f"location ~ ^(?<script>{mount.path.rstrip('/')})(?<info>/.*)?$ {{ {mount.more}\n"
        if mount.interface == "http":
            return (
                f"{where} proxy_pass http://{mount.name}; proxy_http_version 1.1; proxy_buffering off;\n"
                'proxy_set_header Connection ""; proxy_set_header Host $http_host;\n'
                "proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;\n"
                f'proxy_set_header X-Forwarded-Prefix "{mount.path.rstrip("/")}"; }}\n'
            )
        kind = mount.interface
        known = PARAMS if kind == "fastcgi" else {**PARAMS, "SCGI": "1"}
        params = "".join(
            f"{kind}_param {name} {value};\n" for name, value in known.items()
            if (kind, name) != ("scgi", "CONTENT_LENGTH")  # it writes that itself
        )  # fmt: skip
        how = f"{kind}_buffering off;" if not mount.kept else "fastcgi_keep_conn on;"
        return f"{where} {kind}_pass {mount.name}; {how}\n{params}}}\n"


class Lighttpd(WebServer):
    program = "lighttpd"

    def arguments(self) -> list[str]:
        return ["-D", *super().arguments()]

    def config(self, mounts: Sequence[Mount], more: str) -> str:
        d = self.directory
        text = (
            f'server.port = {self.port}\nserver.bind = "{HOST}"\nserver.document-root = "{d}/www"\n'
            f'server.errorlog = "{d}/log"\nserver.upload-dirs = ("{d}")\nserver.stream-response-body = 1\n'
            'server.modules = ("mod_setenv", "mod_fastcgi", "mod_scgi", "mod_proxy")\n'
        )
        for interface, module in (("fastcgi", "fastcgi"), ("scgi", "scgi"), ("http", "proxy")):
            entries = [self.entry(one) for one in mounts if one.interface == interface]
            if entries:
                text += f"{module}.server = (\n{', '.join(entries)})\n"
        for mount in mounts:
            if mount.interface == "http":
                text += (f'$HTTP["url"] =~ "^{mount.path}" {{\n'
                         f'setenv.set-request-header = ("X-Forwarded-Prefix" => "{mount.path}") }}\n')  # fmt: skip
        return text + more

    def entry(self, mount: Mount) -> str:
        if mount.address.startswith("unix:"):
            place = f'"socket" => "{mount.address[5:]}"' if mount.interface != "http" else f'"host" => "{mount.address[5:]}"'
        else:
            host, _, port = mount.address.rpartition(":")
            place = f'"host" => "{host}", "port" => {port}'
        if mount.interface != "http":
            place += ', "check-local" => "disable"'
            place += ', "fix-root-scriptname" => "enable"' if mount.path == "/" else ""
        return f'"{mount.path}" => (({place} {mount.more}))\n'


class Apache(WebServer):
    program = "apache2"

    def arguments(self) -> list[str]:
        return ["-DFOREGROUND", *super().arguments()]

    def config(self, mounts: Sequence[Mount], more: str) -> str:
        d = self.directory
        modules = Path(max(glob("/usr/lib*/apache2/modules") + glob("/usr/lib*/httpd/modules")))
        wanted = ("mpm_event", "authz_core", "authn_core", "auth_basic", "authz_user", "authnz_fcgi", "setenvif", "headers",
                  "proxy", "proxy_fcgi", "proxy_scgi", "proxy_http")  # fmt: skip
        text = "".join(f"LoadModule {name}_module {modules}/mod_{name}.so\n" for name in wanted)
        text += "User nobody\nGroup nogroup\n" if os.geteuid() == 0 else ""
        text += (
            f"ServerRoot {d}\nServerName localhost\nListen {HOST}:{self.port}\nPidFile pid\nErrorLog log\n"
            f"DefaultRuntimeDir {d}\nDocumentRoot {d}/www\n"
            "StartServers 1\nServerLimit 1\nThreadLimit 40\nThreadsPerChild 40\nMaxRequestWorkers 40\n"
            "SetEnvIf Request_URI . proxy-fcgi-pathinfo=unescape proxy-scgi-pathinfo=1 ap_trust_cgilike_cl=1\n"
        )
        return text + "".join(map(self.proxied, sorted(mounts, reverse=True))) + more

    def proxied(self, mount: Mount) -> str:
        scheme = {"fastcgi": "fcgi", "scgi": "scgi", "http": "http"}[mount.interface]
        path = mount.path.rstrip("/") if mount.interface == "http" else ""
        place = f"{scheme}://{mount.address}{path}"
        if mount.address.startswith("unix:"):
            place = f"{mount.address}|{scheme}://{mount.name}{path}"
        slash = "/" if mount.path == "/" else ""
        options = "enablereuse=on " * mount.kept + "flushpackets=on"
        text = f'ProxyPass "{mount.path}" "{place}{slash}" {options}\n'
        if mount.interface == "http":
            text = (f'<Location "{mount.path}">\nProxyPreserveHost on\nRequestHeader set X-Forwarded-Prefix {mount.path}\n'
                    f'ProxyPass "{place}{slash}" {options}\n</Location>\n')  # fmt: skip
        return text + mount.more


SERVERS: dict[str, type[WebServer]] = {"nginx": Nginx, "lighttpd": Lighttpd, "apache": Apache}


class Relay:
    """Between a web server and a worker: passes octets on, and counts connections."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.target = (host, int(port))
        self.listener = socket.create_server((HOST, 0))
        self.address = f"{HOST}:{self.listener.getsockname()[1]}"
        self.connections = 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                one, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.pass_on, args=(one,), daemon=True).start()

    def pass_on(self, one: socket.socket) -> None:
        with one, socket.create_connection(self.target) as other, suppress(ConnectionError):
            while True:
                for source in select.select([one, other], [], [])[0]:
                    octets = source.recv(65536)
                    if not octets:
                        return
                    (other if source is one else one).sendall(octets)

    def stop(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
