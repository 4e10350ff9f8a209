"""A mistake in a config file, told so that it can be mended at once.

Promise: file, line where it is known, key, value, what is allowed, and the nearest known name.
Must never know: what the keys mean. Next: `config.py`, which finds the mistakes.
"""

from __future__ import annotations

import difflib
import json
import re
import shlex
from collections.abc import Iterable

SHOWN = 80
"""Characters of a value that a message quotes."""


class ConfigError(Exception):
    """One mistake. `str()` is the message for a terminal, without a line end."""

    def __init__(
        self,
        problem: str,
        *,
        file: str | None = None,
        line: int | None = None,
        key: str = "",
        value: object = None,
        allowed: str = "",
        nearest: str | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.file = file
        self.line = line
        self.key = key
        self.value = value
        self.allowed = allowed
        self.nearest = nearest

    def __str__(self) -> str:
        place = self.file or "gateway"  # the command line, where there is no file
        if self.line:
            place += f":{self.line}"
        text = f"{place}: "
        if self.key:
            text += f"{self.key}"
            text += f" = {_short(self.value)}: " if self.value is not None else ": "
        text += self.problem
        if self.nearest:
            text += f"; did you mean {self.nearest!r}?"
        if self.allowed:
            text += f"\n  allowed: {self.allowed}"
        return text


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= SHOWN else shown[: SHOWN - 3] + "..."


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that a misspelt one most likely stands for."""
    by_lower = {one.lower(): one for one in known}
    matches = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[matches[0]] if matches else None


def as_list(command: str) -> str:
    """A command line as the list that TOML wants; "" for a single word."""
    try:
        words = shlex.split(command)
    except ValueError:  # a quotation mark that stands alone
        words = command.split()
    return json.dumps(words, ensure_ascii=False) if len(words) > 1 else ""


_TABLE = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"^\s*([A-Za-z0-9_.\"'-]+)\s*=")


def find_line(text: str, key: str) -> int | None:
    """The line (from 1) in TOML `text` where a key such as `routes[2].timeouts.connect` is set.

    A scan and no parser: None where a key is written in a way that it does not see.
    """
    parts = [part for part in re.split(r"\.|(?=\[\d+\])", key) if part]
    best: int | None = None
    counts: dict[str, int] = {}
    here: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        table = _TABLE.match(line)
        if table:
            name = table[2].replace('"', "").replace("'", "")
            if table[1] == "[[":
                counts[name] = counts.get(name, 0) + 1
            here, above = [], ""
            for part in name.split("."):
                above = f"{above}.{part}" if above else part
                here.append(part)
                if above in counts:  # [routes.timeouts] belongs to the last [[routes]]
                    here.append(f"[{counts[above]}]")
        else:
            assignment = _KEY.match(line)
            if not assignment:
                continue
            spelt = [*here, *assignment[1].replace('"', "").replace("'", "").split(".")]
            if spelt == parts:
                return number
            if parts[: len(spelt)] == spelt:  # inside an inline table
                best = number
            continue
        own = here == parts or (best is None and here[:-1] == parts)  # [[server]] where [server] is meant
        if own or (best is None and parts[: len(here)] == here and len(here) >= 2):
            best = number
    return best
