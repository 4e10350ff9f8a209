"""How a mistake in a config file is told, and the line that it is found on."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config_errors import SHOWN, ConfigError, find_line, nearest

TEXT = """[server]
listen = ["127.0.0.1:1"]
limits = { content = "1MB" }

[[routes]]
path = "/"
[routes.timeouts]
connect = "1s"

[[ routes ]] # the second
'path' = "/b"
timeouts = { connect = "2s" }

[apps."wiki"]
command = ["x"]
environment.HOME = "/"

[[log]]
"""


@pytest.mark.parametrize(
    ("key", "line"),
    [("server.listen", 2), ("server.limits.content", 3), ("routes[1].path", 6), ("routes[1].timeouts.connect", 8),
     ("routes[2].path", 11), ("routes[2].timeouts.connect", 12), ("routes[2]", 10), ("apps.wiki.command", 15),
     ("apps.wiki.environment.HOME", 16), ("log", 18), ("nothing", None)],
)  # fmt: skip
def test_the_line_of_a_key(key: str, line: int | None) -> None:
    assert find_line(TEXT, key) == line


def test_the_table_stands_for_a_key_that_is_missing_in_it() -> None:
    assert find_line(TEXT, "routes[2].interface") == 10


def test_lines_are_counted_as_an_editor_counts_them() -> None:
    assert find_line("# a\x0bb\x85c\u2028d\r\n[server]\nuser = 1\n", "server.user") == 3


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="[]a.\"'=# \n", max_size=60), st.text(alphabet="a.[]1", max_size=12))
def test_any_text_is_scanned(text: str, key: str) -> None:
    line = find_line(text, key)
    assert line is None or 1 <= line <= text.count("\n") + 1


def test_all_that_is_known_is_told_in_two_lines() -> None:
    error = ConfigError("no such key", file="g.toml", line=3, key="routes[2].keep", value=1,
                        allowed="keepalive, host", nearest="keepalive")  # fmt: skip
    assert str(error) == "g.toml:3: routes[2].keep = 1: no such key; did you mean 'keepalive'?\n  allowed: keepalive, host"


def test_what_is_not_known_is_left_out() -> None:
    assert str(ConfigError("cannot be read", file="g.toml")) == "g.toml: cannot be read"
    assert str(ConfigError("`path` is missing", file="g.toml", line=1, key="routes[1]")) == (
        "g.toml:1: routes[1]: `path` is missing"
    )


def test_a_long_value_is_cut_and_a_line_end_in_one_is_escaped() -> None:
    told = str(ConfigError("is not allowed", key="a", value="x\n" * 1000))
    assert "\n" not in told
    assert len(told) < SHOWN + 40


@pytest.mark.parametrize(
    ("name", "found"), [("keep_alive", "keepalive"), ("pth", "path"), ("PATH", "path"), ("zzz", None), ("", None)]
)
def test_the_nearest_name(name: str, found: str | None) -> None:
    assert nearest(name, ["keepalive", "path"]) == found


def test_a_name_is_near_in_any_case() -> None:
    assert nearest("wiky", ["Wiki", "blog"]) == "Wiki"
