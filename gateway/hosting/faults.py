"""What an application's exception says to the people who have to mend it.

Promise: one line with the place in their own code, and a traceback that begins there; whatever an exception
does when it is looked at, this does not raise.
Must never know: HTTP, what the application was called for. Next: `loading.py` and `gateway/interfaces/`.
"""

from __future__ import annotations

import linecache
import os
import sysconfig
import traceback
from types import FrameType, TracebackType
from typing import Any, Final

from gateway.errors import GatewayError

LINE: Final = 300
"""Characters of an exception's message that stand in one line of a log."""
_OURS: Final = ("gateway", "protocols")
_LIBRARIES: Final = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_INSTALLED: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


class Disconnected(ConnectionResetError):
    """What an application gets that goes on with a request whose client has left."""


def summary(error: BaseException) -> str:
    """The last line of its traceback: the kind, and the first line of its message."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    try:
        lines = str(error.msg if isinstance(error, SyntaxError) else error).strip().splitlines()
    except Exception:  # the method __str__ is the application's own
        return name
    return f"{name}: {lines[0][:LINE]}" if lines else name


def place(error: BaseException) -> str:
    """`file:line` of the deepest frame in code that is neither ours nor installed; "" if there is no frame at all."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    deepest = own = ""
    entry = error.__traceback__
    while entry is not None:
        frame = entry.tb_frame
        filename = frame.f_code.co_filename
        if not _is_ours(frame) and not filename.startswith("<frozen "):
            deepest = f"{filename}:{entry.tb_lineno}"
            if not _is_installed(filename):
                own = deepest
        entry = entry.tb_next
    return own or deepest


def full_traceback(error: BaseException) -> str:
    """The traceback as Python prints it, without our own frames at its beginning."""
    begin: TracebackType | None = error.__traceback__
    while begin is not None and _is_ours(begin.tb_frame):
        begin = begin.tb_next
    try:
        linecache.checkcache()
        return "".join(traceback.format_exception(type(error), error, begin or error.__traceback__))
    except Exception as defect:
        return f"{summary(error)} (its traceback can't be shown: {summary(defect)})\n"


def code_of(app: Any) -> str:
    """`file:line` where an application is defined, "" if it does not say."""
    for one in (app, getattr(app, "func", None), getattr(type(app), "__call__", None)):  # noqa: B004
        code = getattr(getattr(one, "__func__", one), "__code__", None)
        if code is not None:
            return f"{code.co_filename}:{code.co_firstlineno}"
    return ""


def comes_of_leaving(error: BaseException) -> bool:
    """Whether the application has only passed on, in words of its own perhaps, that the client has left."""
    seen: list[BaseException] = []
    left = [error]
    while left and len(seen) < 32:
        one = left.pop()
        if isinstance(one, Disconnected):
            return True
        if one in seen:
            continue
        seen.append(one)
        left += [other for other in (one.__cause__, one.__context__) if other is not None]
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions
    return False


def app_error(error: BaseException, app: Any, *, begun: bool) -> GatewayError:
    """The application has failed; `begun`: some of its response is with the client already."""
    where = place(error) or code_of(app)
    detail = f"the application raised {summary(error)}" + (f" ({where})" if where else "")
    if begun:
        detail += "; its response had begun, and was cut"
    return GatewayError(500, "app-error", detail, "its traceback stands in this log")


def _is_ours(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__")  # compiled code has no file name that could be relied on
    return isinstance(name, str) and name.partition(".")[0] in _OURS


def _is_installed(filename: str) -> bool:
    return filename.startswith((*_LIBRARIES, "<")) or any(part in filename for part in _INSTALLED)
