"""What can go wrong in an exchange: few types, much data.

Promise: every failure says whose fault it is, whether another try is safe, which status a client
gets, what happened, and what the owner of the route can do about it.
Must never know: how the error is shown. Next: `exchange.py`, which decides what to do with one.
"""

from __future__ import annotations

import enum


class Side(enum.Enum):
    """Whose fault it is."""

    CLIENT = "client"
    GATEWAY = "gateway"
    UPSTREAM = "upstream"


class Retry(enum.Enum):
    """Whether the request may go to a worker once more (SEMANTICS 42, 64)."""

    SAFE = "safe"
    """Nothing of it was processed: connecting failed, or the worker rejected it."""
    IF_IDEMPOTENT = "if-idempotent"
    """It may have been processed, nothing of a response came."""
    NO = "no"


class GatewayError(Exception):
    """A failed exchange.

    status   what the client gets if no response head was sent yet
    cause    one word from a closed list, for logs and metrics (SEMANTICS 102)
    detail   what happened, a short sentence
    remedy   what to do, a short sentence, may be empty
    """

    def __init__(
        self,
        status: int,
        cause: str,
        detail: str,
        remedy: str = "",
        *,
        side: Side = Side.UPSTREAM,
        retry: Retry = Retry.NO,
        retry_after_s: int = 0,
        close: bool = False,
        fields: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.cause = cause
        self.detail = detail
        self.remedy = remedy
        self.side = side
        self.retry = retry
        self.retry_after_s = retry_after_s
        """Seconds for a Retry-After field of a 503; 0 for none."""
        self.close = close
        """Whether the client's framing is uncertain, so that its connection must end."""
        self.fields = fields
        """Field lines that the status asks for, such as Allow (405) or Content-Range (416)."""
        self.route = ""
        """The route's path where it was found before the exchange knew it; else ""."""


def too_large(limit_bytes: int) -> GatewayError:
    """The error for request content that is longer than it may be."""
    return GatewayError(
        413, "content-limit", f"request content exceeds {limit_bytes} octets",
        "raise limits.content of the route or server", side=Side.CLIENT, close=True,
    )  # fmt: skip


class ServeError(Exception):
    """The server cannot start: what is wrong, and what to do."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


def cannot_open(error: OSError) -> ServeError:
    """The error for a log that can't be written."""
    return ServeError(
        f"the log {error.filename} cannot be opened: {error.strerror}", "see [log] in the config, and who may write there"
    )


class HostingError(ServeError):
    """An application cannot be hosted."""
