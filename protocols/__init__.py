"""Wire formats as plain functions of bytes: HTTP/1.1, CGI, FastCGI, SCGI.

Promise: bytes in, events out, and back; every file holds both roles of its format.
Must never know: sockets, clocks, threads, event loops, files, the environment.
Next: `message.py`, the words that all formats share.
"""
