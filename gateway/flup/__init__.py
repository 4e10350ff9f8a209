"""flup's successor: its modules, names and arguments, over the machine of this project.

A program for flup changes its import line and nothing else:

    from flup.server.fcgi import WSGIServer              # before
    from gateway.flup.server.fcgi import WSGIServer      # after; gateway.flup.fcgi is the same

Promise: what flup's documentation says of a constructor, of `run` and of the methods meant to be overridden holds;
where we differ on purpose, docs/flup.md says why. Nobody within the project imports this package.
Next: `fcgi.py`, the module most used; `serving.py`, which runs it.
"""

from __future__ import annotations

import sys


def install() -> None:
    """Be `flup` for whatever imports it from now on: for frameworks that import flup themselves.

    Call it before they do. A real flup beside us is not touched, and not found any more by this process.
    """
    for name in [name for name in sys.modules if name == "flup" or name.startswith("flup.")]:
        del sys.modules[name]
    sys.modules["flup"] = sys.modules[__name__]
