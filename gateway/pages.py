"""Error pages: short, plain, and without a word about what is inside.

Promise: the reader learns what it means for him and which id to quote; the log says the rest.
Must never know: causes, routes, workers. Next: `site.py`, which sends them.
"""

from __future__ import annotations

from protocols.status import reason

_ADVICE = {
    400: "The request could not be understood.",
    403: "You may not have this page.",
    404: "There is nothing at this address.",
    405: "This address does not answer this kind of request.",
    408: "The request took too long to arrive.",
    413: "What was sent is too large.",
    414: "The address is too long.",
    416: "The range asked for lies outside the file.",
    417: "The expectation cannot be met.",
    421: "This server does not answer for that host.",
    431: "The fields of the request are too large.",
    500: "Something went wrong on this server.",
    501: "This server does not know how to do that.",
    502: "The application gave an answer that cannot be used.",
    503: "The application is not available at the moment. Please try again shortly.",
    504: "The application took too long to answer.",
    505: "This version of HTTP is not supported.",
}


def error_page(status: int, exchange_id: bytes) -> bytes:
    """A whole HTML document, UTF-8. The id is made of safe characters (site.new_exchange_id)."""
    phrase = reason(status) or "Unknown"
    advice = _ADVICE.get(status, phrase + ".")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{status} {phrase}</title>'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">'
        "<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 1rem}"
        "small{opacity:.6}</style>"
        f"<h1>{status} {phrase}</h1><p>{advice}</p><p><small>Exchange {exchange_id.decode('latin-1')}</small></p>"
        "\n"
    ).encode()
