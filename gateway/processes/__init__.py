"""The one home of child processes: started, watched and ended here and nowhere else.

Promise: a child gets what its Launch names and nothing more; its group is ended with it.
Must never know: HTTP, event loops. Next: `launch.py`, then `reap.py`, then `supervise.py`.
"""
