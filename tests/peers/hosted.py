"""Applications that the gateway hosts: one config for each interface, and a visit that can be compared with others."""

from __future__ import annotations

import re
from typing import Any

import requests

INTERFACES = ("cgi", "fastcgi", "scgi", "http")
OF_THE_CONNECTION = {"date", "connection", "keep-alive", "transfer-encoding"}
VARYING = re.compile(r"""(csrfmiddlewaretoken" value=")\w+|(csrfToken["']: ["'])\w+""")


def configs(template: str) -> dict[str, str]:
    """The config for each interface; they differ in one word."""
    made = {interface: template.format(interface=interface) for interface in INTERFACES}
    words = {interface: text.split() for interface, text in made.items()}
    for interface, mine in words.items():
        assert len(mine) == len(words["cgi"])
        differing = [(old, new) for old, new in zip(words["cgi"], mine) if old != new]
        assert differing == [('"cgi"', f'"{interface}"')] * (interface != "cgi")
    return made


class Visit:
    """A browser's, and what it saw: comparable, whatever port the server has."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()
        self.seen: list[Any] = []

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *exception: object) -> None:
        self.session.close()

    def ask(self, method: str, path: str, **more: Any) -> requests.Response:
        response = self.session.request(method, self.url + path, timeout=30, allow_redirects=False, **more)
        fields = [
            self.field(name.lower(), value)
            for name, value in response.raw.headers.items() if name.lower() not in OF_THE_CONNECTION
        ]  # fmt: skip
        is_text = response.headers.get("Content-Type", "").startswith(("text/", "application/json"))
        content = self.plain(response.text) if is_text else response.content
        self.seen.append((method, path, response.status_code, response.reason, sorted(fields), content))
        return response

    def get(self, path: str, **more: Any) -> requests.Response:
        return self.ask("GET", path, **more)

    def post(self, path: str, **more: Any) -> requests.Response:
        return self.ask("POST", path, **more)

    def field(self, name: str, value: str) -> tuple[str, str]:
        """A field line, without what differs from one answer to the next."""
        if name == "set-cookie":
            return name, value.partition("=")[0]
        if name == "allow":  # a set, to Werkzeug
            return name, ", ".join(sorted(value.split(", ")))
        return name, "..." if name == "expires" else self.plain(value)

    def plain(self, text: str) -> str:
        return VARYING.sub(r"\1\2...", text.replace(self.url, "URL"))
