#!/usr/bin/env -S python3 -I -S
# Most of a Python script's time is the interpreter's start: -I -S leaves out what it does not need.
import os
import sys

print("Content-Type: text/plain; charset=utf-8")
print()
print(f"Hello from Python {sys.version.split()[0]}:", os.environ["REQUEST_METHOD"], os.environ["SCRIPT_NAME"])
