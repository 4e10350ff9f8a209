"""The grammar of HTTP/1.1 messages: every pattern beside its rule (RFC 9110, RFC 9112, RFC 3986).

Promise: each pattern takes time linear in its input, and where the RFC lets a recipient be lenient
(bare LF, obs-fold, white space before a colon, control characters), nothing of it matches.
Must never know: what a field means, limits, state. Next: `http1.py`, which reads with these.
"""

from __future__ import annotations

import re

# Possessive quantifiers (`*+`) say that what follows can't be part of what they took: the matcher
# never goes back, so that a hostile head costs no more than an honest one.

# RFC 9110 5.6.2: token = 1*tchar
_TCHAR = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_TOKEN = _TCHAR + rb"++"
TOKEN = re.compile(_TOKEN)

# RFC 9110 5.5: field-value of VCHAR, obs-text, SP and HTAB; CR, LF and NUL make it invalid, and
# the other control characters too, which the RFC only discourages.
# RFC 9112 5: field-line = field-name ":" OWS field-value OWS, and 5.1: no white space before ":".
_FIELD_VALUE = rb"[\t\x20-\x7e\x80-\xff]*+"
_FIELD_LINE = _TOKEN + rb":" + _FIELD_VALUE + rb"\r\n"
_SECTION = rb"(?:" + _FIELD_LINE + rb")*+"
# The white space after a value is no part of it, and one engine leaves it there: a head as a whole
# has none, so that the rare one that does is cleaned first.
_CLEAN_SECTION = rb"(?:" + _TOKEN + rb":" + _FIELD_VALUE + rb"(?<![ \t])\r\n)*+"
TRAILING_SPACE = re.compile(rb"(?<![ \t])(?<!\n)(?<!\A)[ \t]++\r\n")
FIELD_LINE = re.compile(_FIELD_LINE)
FIELD_PARTS = re.compile(rb"(" + _TOKEN + rb"):(" + _FIELD_VALUE + rb")\r\n")

# RFC 9112 7.1.2: trailer-section = *( field-line CRLF ), and the CRLF after it
TRAILER_SECTION = re.compile(_SECTION + rb"\r\n")

# RFC 9112 3: request-line = method SP request-target SP HTTP-version, of exactly one SP each.
# RFC 3986 allows no octet in a URI that is not visible ASCII.
_TARGET = rb"[\x21-\x7e]++"
_VERSION = rb"HTTP/1\.[0-9]"  # RFC 9112 2.3; only this major version is ours to read
_REQUEST_LINE = rb"(" + _TOKEN + rb") (" + _TARGET + rb") (" + _VERSION + rb")\r\n"
REQUEST_LINE = re.compile(_REQUEST_LINE)
REQUEST_HEAD = re.compile(_REQUEST_LINE + rb"(" + _CLEAN_SECTION + rb")\r\n")

# RFC 9112 4: status-line = HTTP-version SP status-code SP [ reason-phrase ]; many servers leave out
# the second SP with the phrase. RFC 9110 15: a status has three digits, the first of which is not 0.
_STATUS_LINE = rb"(" + _VERSION + rb") ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*+))?+\r\n"
STATUS_LINE = re.compile(_STATUS_LINE)
RESPONSE_HEAD = re.compile(_STATUS_LINE + rb"(" + _CLEAN_SECTION + rb")\r\n")

# A start-line that is well formed but of another major version: deserves an answer of its own.
OTHER_VERSION = re.compile(_TOKEN + rb" " + _TARGET + rb" HTTP/([02-9])\.[0-9]\r\n")

# What no head can hold, wherever it is cut: control characters, LF without CR (RFC 9112 2.2), CR
# without LF. A CR at the very end may still get its LF.
NEVER_IN_HEAD = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?!\n|\Z)")

# RFC 9110 7.2: Host = uri-host [ ":" port ]; RFC 3986 3.2.2: IP-literal, or a reg-name, which
# includes IPv4 addresses and may be empty. No userinfo (RFC 9110 4.2.4).
_REG_NAME = rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})"
_IP_LITERAL = rb"\[(?:[0-9A-Fa-f:.]{2,45}|[vV][0-9A-Fa-f]+\.[A-Za-z0-9\-._~!$&'()*+,;=:]+)\]"
HOST = re.compile(rb"(?:" + _IP_LITERAL + rb"|" + _REG_NAME + rb"*+)(?::[0-9]{0,5})?")

# RFC 9112 3.2.2: absolute-form; the authority of an http URI has a host (RFC 9110 4.2.1).
ABSOLUTE_FORM = re.compile(rb"[A-Za-z][A-Za-z0-9+\-.]*+://([^/?#]++)[\x21-\x7e]*+")
# RFC 9112 3.2.3: authority-form = uri-host ":" port
AUTHORITY_FORM = re.compile(rb"(?:" + _IP_LITERAL + rb"|" + _REG_NAME + rb"++):[0-9]{1,5}")

# RFC 9112 7.1: chunk-size [ chunk-ext ] CRLF. The size is bounded to 16 digits; the bad white space
# that 7.1.1 lets stand before an extension is refused, as the stricter of two engines does.
_CHUNK_EXT = rb"(?:;[\t\x20-\x7e\x80-\xff]*+)?+"
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16}+)(" + _CHUNK_EXT + rb")\r\n")
CHUNK_LINE_BEGUN = re.compile(rb"(?:[0-9A-Fa-f]{1,16}+" + _CHUNK_EXT + rb"\r?)?")

NOT_IN_REASON = re.compile(rb"[\r\n\x00]")
"""What a reason phrase of ours never has in it."""
