"""Small programs to look at and to start from: one application in several guises.

Promise: each file stands alone, is complete, and needs nothing of `gateway` or `protocols`.
Must never know: which web server calls it.
Next: `application.py`, which all four interfaces serve; then `cgi-bin/hello.sh`, the shortest.
"""
