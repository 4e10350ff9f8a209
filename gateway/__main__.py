"""`python -m gateway`: the same as the command `gateway`. Next: `cli/__init__.py`."""

import sys

from gateway.cli import main

if __name__ == "__main__":
    sys.exit(main())
