"""What the gateway tells of itself: the access log and the error log.

Promise: a log that can't be written never breaks a request; what a client sends can't forge a line.
Must never know: sockets, drivers. Next: `error_log.py`, `access_log.py`.
"""
