"""How bytes move: one driver a file, each under the contract of `gateway/ends.py`."""
