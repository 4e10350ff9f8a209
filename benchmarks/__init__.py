"""The gateway beside its peers, in one run on one machine: `python -m benchmarks`.

Promise: every server gets the same origin, the same load and one core of its own, in random order;
what is reported are ratios and their spread, since absolute figures are a machine's, not a server's.
Must never know: anything of `gateway` but its command line and its config file.
Next: `__main__.py`, the parts of a run.
"""
