"""The reason phrases of HTTP's status codes (RFC 9110 15).

Promise: the same on every Python; the library had older names for some before 3.13.
Must never know: what a status is sent for. Next: `http1_writing.py`.
"""

from __future__ import annotations

from http import HTTPStatus

REASONS = {int(status): status.phrase for status in HTTPStatus} | {
    413: "Content Too Large",  # RFC 9110 15.5.14
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}


def reason(status: int) -> str:
    """The phrase of a status, "" for one that has none."""
    return REASONS.get(status, "")
