"""The tables of one TOML file, read by a table of keys.

Promise: every key is known and means something where it stands, every value is allowed; else one ConfigError
with the line. Must never know: what a key is for. Next: `config_keys.py`, those tables; `config.py`, who reads.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Sequence
from typing import Any, NoReturn

from gateway import config_app_keys as app_keys
from gateway import config_values as values
from gateway.config_errors import ConfigError, find_line, nearest
from gateway.config_keys import Key


class Tables:
    """One file."""

    def __init__(self, source: str, file: str) -> None:
        self.source = source
        self.file = file
        self.directory = os.path.dirname(os.path.abspath(file))

    def wrong(
        self, problem: str, key: str, value: object = None, allowed: str = "", near: str | None = None
    ) -> NoReturn:
        raise ConfigError(
            problem, file=self.file, line=find_line(self.source, key), key=key, value=value,
            allowed=allowed, nearest=near,
        )  # fmt: skip

    def table(self, value: Any, key: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            name = "apps.NAME" if key.removeprefix("apps.") in ("apps", *(one.name for one in app_keys.APP)) else key
            allowed = "{ name = value }" if key.startswith("routes") else f"[{name}], in single brackets"
            self.wrong("has to be a table", key, value, allowed)
        return value

    def values(
        self, table: dict[str, Any], known: Sequence[Key], where: str, chosen: tuple[str, str] | None = None
    ) -> dict[str, Any]:
        """The values of a table by key, defaults filled in.

        `chosen`, such as ("interface", "http"), is what decides which keys mean something.
        """
        by_name = {key.name: key for key in known}
        allowed = [key.name for key in known if not key.later and (chosen is None or key.means_something(chosen[1]))]
        for name, value in table.items():
            key = by_name.get(name)
            at = f"{where}.{name}"
            if key is None:
                self.wrong("no such key", at, value, ", ".join(allowed), nearest(name, allowed))
            if chosen is not None and not key.means_something(chosen[1]):
                word, name = chosen
                self.wrong(f"means nothing for {word} {name!r}", at, value, "for " + ", ".join(key.known_to))
            if key.later:
                self.wrong(key.later, at, value)
        found: dict[str, Any] = {}
        for key in known:
            if key.parse is None:
                continue
            value = table.get(key.name)
            if value is None:
                found[key.name] = key.default
                continue
            try:
                found[key.name] = key.parse(value)
            except ValueError as error:
                near = error.nearest if isinstance(error, values.NotOneOf) else None
                self.wrong("is not allowed", f"{where}.{key.name}", value, str(error), near)
        return found

    def group(self, name: str, key: str) -> None:
        try:
            grp.getgrnam(name)
        except KeyError:
            self.wrong("there is no such group on this machine", key, name)

    def user(self, name: str, key: str) -> None:
        try:
            pwd.getpwnam(name)
        except KeyError:
            self.wrong("there is no such user on this machine", key, name)
