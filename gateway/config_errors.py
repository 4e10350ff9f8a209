"""A mistake in a config file, told so that it can be mended at once.

Promise: file, line where it is known, key, value, what is allowed, and the nearest known name.
Must never know: what the keys mean. Next: `config.py`, which finds the mistakes.
"""

from __future__ import annotations

import difflib
import re
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
        place = f"{self.file or 'config'}:{self.line}" if self.line else self.file or "config"
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
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


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
        if here == parts or (best is None and parts[: len(here)] == here and len(here) >= 2):
            best = number
    return best
