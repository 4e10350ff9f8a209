#!/usr/bin/env -S python3 -I
"""The environment of a CGI script, as a page. What comes from outside is escaped before it is shown."""

from __future__ import annotations

import html
import os
import sys

STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
td { padding: .2rem 1rem .2rem 0; vertical-align: top; overflow-wrap: anywhere }
td { font-family: ui-monospace, monospace } .http { opacity: .7 }
"""

print("Content-Type: text/html; charset=utf-8\r\n\r", flush=True)
print("<!doctype html><html lang=en><meta charset=utf-8><title>Environment</title>")
print(f"<style>{STYLE}</style><h1>What a CGI script is told</h1>")
print("<p>Meta-variables (RFC 3875 section 4.1) are environment variables here. Those that begin with")
print("<code>HTTP_</code> are the client's own field lines.</p><table>")
for name, value in sorted(os.environ.items()):
    kind = "http" if name.startswith("HTTP_") else "server"
    # Values may hold any octet; those that are not UTF-8 are shown as escapes.
    text = value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    print(f"<tr class={kind}><td>{html.escape(name)}<td>{html.escape(text)}")
print(f"</table><p>Arguments: <code>{html.escape(repr(sys.argv[1:]))}</code>")
