"""What stands for a value in the config file: sizes, durations, addresses, names.

Promise: each either returns the value or raises ValueError that says what is allowed.
Must never know: which key it is for. Next: `config_keys.py`, the tables.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from keyword import iskeyword
from typing import Any

from gateway.config_errors import nearest
from gateway.ends import Address

UNIX_PATH_BYTES = 107
SYSTEMD = -1
"""In place of an address: all sockets that systemd has handed over."""

_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) *([KMGT]i?B|B)?", re.IGNORECASE)
_SIZES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
          "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}  # fmt: skip
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) *(ms|s|m|h|d)?")
_LARGEST = 1 << 62
"""No size, duration or number is larger: the driver and the file system take it as 64 bits."""
_LABEL = "[A-Za-z0-9_-]{1,63}"
_HOST = re.compile(rf"(?!.{{254}}){_LABEL}(?:\.{_LABEL})*\.?|\[[0-9A-Fa-f:.]+\]")
"""RFC 1035 2.3.4: 63 octets a label, 253 in all; the resolver refuses others, and takes `_`."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_DURATIONS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def size(value: Any) -> int:
    """Octets of "8KiB", "1MB", 512."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST:
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError('a size: 4096, "8KiB", "10MB", "1GiB"')
    octets = int(float(match[1]) * _SIZES[(match[2] or "").lower()])
    if octets > _LARGEST:
        raise ValueError(f"a size of at most {_LARGEST} octets")
    return octets


def size_from(minimum: int) -> Callable[[Any], int]:
    """A size that leaves room for something."""

    def parse(value: Any) -> int:
        octets = size(value)
        if octets < minimum:
            raise ValueError(f"{minimum} octets at least: with less, no request gets through")
        return octets

    return parse


def duration(value: Any) -> float:
    """Seconds of "10s", "500ms", "5m", 2.5; 0 for no bound."""
    return _duration(value, '"0" for no bound')


def grace(value: Any) -> float:
    """Seconds; 0 is no wait at all."""
    return _duration(value, '"0" to wait for nothing')


def _duration(value: Any, nought: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LARGEST:
        return float(value)
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError('a duration: "500ms", "10s", "5m", 2.5 (seconds), ' + nought)
    return float(match[1]) * _DURATIONS[match[2] or ""]


def address(value: Any) -> Address:
    """ "127.0.0.1:9000", "[::1]:9000", "name:9000", "unix:/path"."""
    found = _address(value)
    if not found.path and not (found.host and found.port):
        raise ValueError(_ADDRESSES + ": a worker has a host and a port")
    return found


def worker(value: Any) -> tuple[Address, float, bool]:
    """An address, or a table with its weight and whether it is a backup; "srv:NAME" are those of a DNS record."""
    weight, backup = 1, False
    if isinstance(value, dict):
        for name in value:
            if name not in ("to", "weight", "backup"):
                raise ValueError('{ to = "10.0.0.7:9000", weight = 3, backup = true }, ' + f"not {name!r}")
        weight, backup = value.get("weight", 1), value.get("backup", False)
        if not isinstance(weight, int) or isinstance(weight, bool) or not 1 <= weight <= 1000:
            raise ValueError(f"a weight from 1 to 1000, not {weight!r}")
        if not isinstance(backup, bool):
            raise ValueError(f"backup = true or false, not {backup!r}")
        value = value.get("to")
    if isinstance(value, str) and value.startswith("srv:"):
        name = value.removeprefix("srv:")
        if not _HOST.fullmatch(name) or name.startswith("["):
            raise ValueError('the name of an SRV record: "srv:_http._tcp.example.org"')
        return Address(name, service=True), float(weight), backup
    return address(value), float(weight), backup


def name_server(value: Any) -> Address:
    """Where questions about names go; the port may be left out."""
    host = value if isinstance(value, str) else ""
    try:
        return Address(str(ipaddress.ip_address(host.strip("[]"))), 53)
    except ValueError:
        pass
    try:
        found = address(value)
        ipaddress.ip_address(found.host)
    except ValueError:
        raise ValueError('an address in figures, with or without a port: "127.0.0.1:5353", "10.0.0.2"') from None
    return found


def hashed(value: Any) -> str:
    """What is hashed of a request."""
    if value != "client":
        kind, _, name = value.partition(":") if isinstance(value, str) else ("", "", "")
        if kind not in ("field", "cookie") or not _TOKEN.fullmatch(name):
            raise ValueError('"client" (its address), "field:NAME", or "cookie:NAME"')
    return str(value)


def statuses(value: Any) -> tuple[int, int]:
    """The lowest and the highest of "200-399", "200"."""
    match = re.fullmatch("([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?", value) if isinstance(value, str) else None
    if match is None or int(match[1]) > int(match[2] or match[1]):
        raise ValueError('a status, or the first and the last of several: "200", "200-399"')
    return int(match[1]), int(match[2] or match[1])


def check_path(value: Any) -> bytes:
    if not isinstance(value, str) or not re.fullmatch("/[!-~]*", value):
        raise ValueError('a path: "/healthz"')
    return value.encode()


_ADDRESSES = '"127.0.0.1:9000", "[::1]:9000", "name:9000", "unix:/path/to.sock"'


def _address(value: Any) -> Address:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(_ADDRESSES)
    if value.startswith(("/", "./")):
        raise ValueError(f'"unix:{value}" for a unix socket')
    if "://" in value:
        raise ValueError(f"{_ADDRESSES}; an address is no URL")
    if value.startswith("unix:"):
        path = value.removeprefix("unix:")
        if not path:
            raise ValueError(_ADDRESSES)
        check_unix_path(path)
        return Address(path=path)
    host, colon, port = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ValueError(f"{_ADDRESSES}; in brackets stands an IPv6 address") from None
    elif ":" in host:
        raise ValueError(_ADDRESSES + "; an IPv6 address stands in brackets")
    elif host and not _HOST.fullmatch(host):
        raise ValueError(_ADDRESSES + "; between the dots of a name stand 1 to 63 letters, digits, - and _")
    if not colon or not re.fullmatch("[0-9]+", port):
        raise ValueError(_ADDRESSES)
    if len(port) > 5 or int(port) > 65535:
        raise ValueError(_ADDRESSES + "; a port is a number up to 65535")
    return Address(host, int(port))


def check_unix_path(path: str) -> None:
    """Raises ValueError for more octets than a socket's name has room for (SEMANTICS 97)."""
    length = len(path.encode("utf-8", "surrogateescape"))
    if length > UNIX_PATH_BYTES:
        raise ValueError(f"a path of at most {UNIX_PATH_BYTES} octets for a unix socket, this one has {length}: {path}")


def listen(value: Any) -> Address | int:
    """Like an address; ":8000" is all addresses of the machine, "fd:3" a socket that listens already, "systemd" all that
    it has handed over."""
    if value == "systemd":
        return SYSTEMD
    if isinstance(value, str) and re.fullmatch("fd:[0-9]{1,6}", value):
        return int(value[3:])
    try:
        return _address(value)
    except ValueError as error:
        raise ValueError(f'{error}, ":8000" for all addresses, "fd:3" for a socket handed over, "systemd" for all') from None


def listens(value: Any) -> tuple[Address | int, ...]:
    """Where to listen: each place once, but port 0 is another one each time."""
    found: tuple[Address | int, ...] = many(listen)(value)
    fixed = [one for one in found if isinstance(one, int) or one.path or one.port]
    for number, one in enumerate(fixed):
        if one in fixed[:number]:
            raise ValueError(f"each address once; {place_name(one)} stands there twice")
    return found


def place_name(place: Address | int) -> str:
    """As it is written."""
    return "systemd" if place == SYSTEMD else f"fd:{place}" if isinstance(place, int) else str(place)


def text(value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("a text in quotes")
    return value


def access_log(value: Any) -> str | None:
    """Where the access log goes; None for nowhere."""
    if value is False:
        return None
    try:
        return text(value)
    except ValueError:
        raise ValueError('"-" for stdout, a path, "syslog", or false for none') from None


def admin(value: Any) -> Address | bool:
    """The admin socket; False for none."""
    if value is False:
        return False
    if isinstance(value, str) and value.startswith("unix:"):
        return address(value)
    raise ValueError('"unix:/path/to.sock", or false for none')


def host(value: Any) -> str:
    """A host that a route is for; compared without port, in lower case."""
    if not isinstance(value, str) or not _HOST.fullmatch(value):
        raise ValueError('whole names without port, as a client sends them: "example.org", "[::1]"')
    return value.lower()


def upstream_host(value: Any) -> str:
    """What the upstream gets as Host."""
    if not isinstance(value, str) or not _HOST.fullmatch(re.sub(":[0-9]{1,5}$", "", value)):
        raise ValueError('"client", "upstream", or a host: "example.org", "example.org:8080"')
    return value


def method(value: Any) -> str:
    """A method; its case counts (RFC 9110 9.1)."""
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise ValueError('methods: "GET", "POST"')
    if value != value.upper() and value.upper() in _METHODS:
        raise ValueError(f'"{value.upper()}": the case of a method counts')
    return value


def methods(value: Any) -> tuple[str, ...]:
    """Where GET is taken, HEAD is: the same without content (RFC 9110 9.3.2)."""
    found: tuple[str, ...] = many(method)(value)
    return (*found, "HEAD") if "GET" in found else found


_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH")


def file_name(value: Any) -> str:
    """The name of a file in a directory, not hidden."""
    if not isinstance(value, str) or not value or value.startswith(".") or "/" in value or "\0" in value:
        raise ValueError('names of files, without a path: "index.php"')
    return value


def suffix(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"\.[^/\0]+", value):
        raise ValueError('a suffix with its dot: ".php"')
    return value


def specifier(value: Any) -> str:
    """Where an application is: "module:callable", "package.module:factory()"; "module" alone is its `application`."""
    if isinstance(value, str):
        module, colon, name = value.partition(":")
        if "/" in value or module.endswith(".py"):
            raise ValueError('a module and no file: "hello:application", with `directory` for where hello.py lies')
        if name.endswith(")") and not name.endswith("()"):
            raise ValueError('a factory without arguments: "hello:make()"')
        if _dotted(module) and (_dotted(name.removesuffix("()")) or not colon):
            return value
    raise ValueError('a module and what is in it: "hello:application", "package.hello:app", "hello:make()"')


def _dotted(name: str) -> bool:
    return all(part.isidentifier() and not iskeyword(part) for part in name.split("."))


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false, without quotes")
    return value


def count(minimum: int, most: int = _LARGEST) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= most:
            raise ValueError(f"a whole number from {minimum} {'up' if most == _LARGEST else f'to {most}'}")
        return value

    return parse


class NotOneOf(ValueError):
    """A word that is not in a list, and the one of the list that it is most like."""

    def __init__(self, value: object, names: Sequence[str]) -> None:
        super().__init__(" | ".join(names))
        word = str(value)
        self.nearest = nearest("fastcgi" if word.lower() == "fcgi" else word, names)  # `scgi` has more of its letters


def choice(*names: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in names:
            raise NotOneOf(value, names)
        return str(value)

    return parse


def many(parse: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    """One value, or a list of them."""

    def parse_all(value: Any) -> tuple[Any, ...]:
        values = value if isinstance(value, list) else [value]
        if not values:
            raise ValueError("at least one")
        return tuple(parse(one) for one in values)

    return parse_all


def environment(value: Any) -> tuple[tuple[bytes, bytes], ...]:
    if not isinstance(value, dict):
        raise ValueError('a table: { NAME = "value" }')
    pairs = []
    for name, one in value.items():
        if not isinstance(one, str) or "\0" in one or not name or "=" in name or "\0" in name:
            raise ValueError(f'a table of texts: {{ NAME = "value" }}, not {name} = {one!r}')
        pairs.append((name.encode("utf-8", "surrogateescape"), one.encode("utf-8", "surrogateescape")))
    return tuple(pairs)
