"""Compiles the way of a request to C when a wheel is built (`pip install .`), by mypyc from these same files.

Promise: what is compiled and what is not behave alike (the tests run on both); without a compiler, and
in an editable installation, the Python files serve as they are, only slower.
Knows nobody, and nobody imports it: pyproject.toml names it to setuptools. Next: `exchange.py`.

What stays Python: classes of msgspec (they are C already), what subclasses a built-in type, and all
that no request passes through. All of it comes into one shared library, gateway__mypyc; beside each
Python file lies a small one that leads there.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from setuptools.command.build_ext import build_ext

COMPILED = (
    "gateway/counts.py",
    "gateway/drivers/acceptor.py",
    "gateway/drivers/blocking.py",
    "gateway/drivers/children.py",
    "gateway/drivers/driver.py",
    "gateway/drivers/event.py",
    "gateway/drivers/forks.py",
    "gateway/drivers/poller.py",
    "gateway/drivers/signals.py",
    "gateway/drivers/wires.py",
    "gateway/ends.py",
    "gateway/errors.py",
    "gateway/exchange.py",
    "gateway/forwarding.py",
    "gateway/fronts/cgi.py",
    "gateway/fronts/fastcgi.py",
    "gateway/fronts/http1.py",
    "gateway/fronts/scgi.py",
    "gateway/hosting/environ.py",
    "gateway/hosting/heads.py",
    "gateway/hosting/router.py",
    "gateway/hosting/wsgi_streams.py",
    "gateway/interfaces/cgi.py",
    "gateway/interfaces/fastcgi.py",
    "gateway/interfaces/fastcgi_hub.py",
    "gateway/interfaces/fastcgi_stream.py",
    "gateway/interfaces/http.py",
    "gateway/interfaces/scgi.py",
    "gateway/interfaces/static.py",
    "gateway/interfaces/wsgi.py",
    "gateway/pieces.py",
    "gateway/requested.py",
    "gateway/routing.py",
    "gateway/sides.py",
    "gateway/site.py",
    "gateway/spool.py",
    "gateway/upstreams/balance.py",
    "gateway/upstreams/connection.py",
    "gateway/upstreams/health.py",
    "gateway/upstreams/member.py",
    "gateway/upstreams/places.py",
    "gateway/upstreams/pool.py",
    "gateway/variables.py",
    "protocols/cgi.py",
    "protocols/cgi_application.py",
    "protocols/chunked.py",
    "protocols/fastcgi.py",
    "protocols/fastcgi_events.py",
    "protocols/fastcgi_records.py",
    "protocols/fields.py",
    "protocols/http1.py",
    "protocols/http1_framing.py",
    "protocols/http1_head.py",
    "protocols/http1_tokeniser.py",
    "protocols/http1_writing.py",
    "protocols/memory.py",
    "protocols/message.py",
    "protocols/scgi.py",
    "protocols/target.py",
)


class BuildCompiled(build_ext):
    """The step of a build in which C is compiled; it never fails, it leaves out what it can't do."""

    def finalize_options(self) -> None:
        self.distribution.ext_modules = [] if os.environ.get("GATEWAY_PURE") else self._to_c()
        super().finalize_options()

    def _to_c(self) -> list[Any]:
        try:
            from mypyc.build import mypycify

            # no config file: whether the code could be compiled does not depend on what we ask of its style
            return list(
                mypycify(
                    ["--config-file=", "--ignore-missing-imports", "--implicit-reexport", *COMPILED],
                    group_name="gateway", opt_level="3", debug_level="0",
                )
            )  # fmt: skip
        except (ImportError, SystemExit) as error:
            return self._not(f"mypyc: {error}")

    def run(self) -> None:
        if self.editable_mode:  # a change to a file has to show at once
            return
        try:
            super().run()
        except Exception as error:  # setuptools and its compilers raise of every kind
            self._not(str(error))
            for built in Path(self.build_lib).rglob("*.so"):
                built.unlink()

    def _not(self, why: str) -> list[Any]:
        print(f"gateway-suite: nothing is compiled, the Python files serve as they are ({why})", file=sys.stderr)
        return []
