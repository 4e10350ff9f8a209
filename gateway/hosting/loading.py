"""From a name such as `module:callable` to an application.

Promise: what cannot be loaded is a HostingError that names the module, the attribute, and the place in the
user's own code; a name that is nearly right is answered with the right one.
Must never know: how an application is called. Next: `faults.py` for the words; `gateway/cli/worker.py`, the user.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import inspect
import os
import sys
from typing import Any, Final

from gateway.errors import HostingError
from gateway.hosting.faults import code_of, place, summary

USUAL: Final = ("application", "app")
"""Attributes that are looked for where none is named."""
FACTORIES: Final = ("create_app", "make_app", "create_application", "make_application", "get_application")
_KINDS: Final = {"wsgi": "a WSGI application", "asgi": "an ASGI application"}
ARGUMENTS: Final = {"wsgi": ("environ", "start_response"), "asgi": ("scope", "receive", "send")}


def load_application(name: str, kind: str | None = None) -> tuple[Any, str]:
    """The application, and "wsgi" or "asgi": `kind` if it is given, else what it looks like. Raises HostingError.

    `name` is `module`, `module:attribute`, `module:object.attribute` or `module:factory()`. The current directory
    comes first on the path of modules.
    """
    module_name, colon, attribute = name.partition(":")
    _check_words(name, module_name, attribute, bool(colon))
    module = _import(module_name)
    app = _attribute(module, module_name, attribute) if colon else _usual(module, module_name)
    if not callable(app):
        raise HostingError(
            f"{name}: {_named(module_name, attribute)} is {_article(app)}, which can't be called",
            "name the application itself" + _known(module),
        )
    kind = kind or ("asgi" if is_asgi(app) else "wsgi")
    _check_arguments(app, kind, module_name, attribute)
    return app, kind


def is_asgi(app: Any) -> bool:
    """Whether it is called with `await`: a coroutine function, or an object whose call is one.

    A class is none: that its instances can be called says nothing of what its own call makes.
    """
    while isinstance(app, functools.partial):
        app = app.func
    if inspect.iscoroutinefunction(app):
        return True
    return not inspect.isclass(app) and inspect.iscoroutinefunction(getattr(app, "__call__", None))  # noqa: B004


# ---------------------------------------------------------------------- the name


def _check_words(name: str, module: str, attribute: str, colon: bool) -> None:
    form = "write it as module:callable, such as hello:application"
    if module.endswith(".py") or "/" in module:
        stem = module.removesuffix(".py").strip("./").replace("/", ".")
        raise HostingError(
            f"{name!r} names a file, where a module is due",
            f"write {stem}{':' if colon else ''}{attribute}, from the directory that it lies in (--chdir)",
        )
    if not all(part.isidentifier() for part in module.split(".")):
        raise HostingError(f"{name!r} names no module", form)
    if colon and not attribute:
        raise HostingError(f"{name!r} names nothing in the module {module}", form)


def _import(name: str) -> Any:
    directory = os.getcwd()
    if sys.path[:1] != [directory]:
        sys.path.insert(0, directory)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(missing + "."):
            raise _no_module(name, missing, directory) from None
        raise _not_imported(name, error) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, too: a script that runs when it is imported
        raise _not_imported(name, error) from error


def _no_module(name: str, missing: str, directory: str) -> HostingError:
    what = f"there is no module {missing}"
    if missing != name:
        what += f", which {name} is in"
    what += f": neither in {directory} nor among what is installed for {sys.executable}"
    parent, _, last = missing.rpartition(".")
    folder = os.path.join(directory, *parent.split(".")) if parent else directory
    near = difflib.get_close_matches(last, _modules_in(folder), 1)
    if near:
        return HostingError(what, f"did you mean {parent + '.' if parent else ''}{near[0]}?")
    return HostingError(what, "start in the directory that it lies in (--chdir), or install it for this Python")


def _modules_in(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name.removesuffix(".py") for entry in entries if entry.name.endswith(".py") or entry.is_dir()]
    except OSError:
        return []
    return [name for name in names if name.isidentifier() and name != "__pycache__"]


def _not_imported(name: str, error: BaseException) -> HostingError:
    where = place(error)
    told = f"module {name} can't be imported: {summary(error)}" + (f" ({where})" if where else "")
    if isinstance(error, SystemExit):
        remedy = 'it ends Python when it is imported: put that below `if __name__ == "__main__":`'
    elif isinstance(error, ModuleNotFoundError):
        remedy = f"install {error.name} for {sys.executable}, or name the Python that has it"
    else:
        remedy = f"correct that line; `{os.path.basename(sys.executable)} -c 'import {name}'` shows the whole traceback"
    return HostingError(told, remedy)


# ---------------------------------------------------------------------- the attribute


def _usual(module: Any, module_name: str) -> Any:
    for name in USUAL:
        if hasattr(module, name):
            return getattr(module, name)
    factory = next((name for name in FACTORIES if callable(getattr(module, name, None))), None)
    what = f"module {module_name} ({_file(module)}) has neither `application` nor `app`"
    if factory is not None:
        raise HostingError(what, f"to have {factory} called for it, write {module_name}:{factory}()")
    raise HostingError(what, f"name its application: {module_name}:callable" + _known(module))


def _attribute(module: Any, module_name: str, path: str) -> Any:
    """Follow dots and calls: `object.attribute`, `create_app()`."""
    found, done = module, ""
    for part in _parts(module_name, path):
        called = part.endswith("()")
        name = part.removesuffix("()")
        try:
            found_next = getattr(found, name)
        except AttributeError:
            raise _no_attribute(found, module, module_name, done, name) from None
        except Exception as error:  # a property, or a module's own __getattr__
            raise _failed(f"{_named(module_name, path)} can't be had", error, found) from error
        found, done = found_next, f"{done}.{name}" if done else name
        if called:
            found = _made(found, f"{module_name}:{done}()")
            done += "()"
    return found


def _parts(module_name: str, path: str) -> list[str]:
    try:
        tree = ast.parse(path, mode="eval").body
    except SyntaxError:
        tree = None
    parts: list[str] = []
    node: ast.expr | None = tree
    call = False
    while node is not None:
        if isinstance(node, ast.Call) and not call:
            if node.args or node.keywords:
                raise HostingError(
                    f"{module_name}:{path} calls with arguments, which can't be given here",
                    "write a function without parameters that makes the application, and name that",
                )
            call, node = True, node.func
        elif isinstance(node, ast.Attribute | ast.Name):
            parts.insert(0, (node.attr if isinstance(node, ast.Attribute) else node.id) + ("()" if call else ""))
            call, node = False, node.value if isinstance(node, ast.Attribute) else None
            if node is None:
                return parts
        else:
            break
    raise HostingError(
        f"{path!r} is no name in a module",
        "write it as module:callable, module:object.attribute or module:factory()",
    )


def _made(factory: Any, name: str) -> Any:
    if not callable(factory):
        raise HostingError(f"{name}: it is {_article(factory)}, which can't be called", f"write {name.removesuffix('()')}")
    try:
        made = factory()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _failed(f"{name} has made no application", error, factory) from error
    if inspect.iscoroutine(made):
        made.close()
        raise HostingError(
            f"{name} is a coroutine, and there is nobody yet to await it",
            f"an ASGI application is named without the call: {name.removesuffix('()')}",
        )
    if made is None:
        raise HostingError(f"{name} returned None ({code_of(factory) or 'built in'})", "have it return the application")
    return made


def _failed(what: str, error: BaseException, owner: Any) -> HostingError:
    where = place(error) or code_of(owner)
    return HostingError(f"{what}: {summary(error)}" + (f" ({where})" if where else ""), "correct that line")


def _no_attribute(holder: Any, module: Any, module_name: str, done: str, name: str) -> HostingError:
    if done:
        what = f"{module_name}:{done} ({_article(holder)}) has no attribute {name!r}"
    else:
        what = f"module {module_name} ({_file(module)}) has no attribute {name!r}"
    names = [one for one in dir(holder) if not one.startswith("_")]
    near = difflib.get_close_matches(name, names, 1)
    if near:
        return HostingError(what, f"did you mean {module_name}:{done + '.' if done else ''}{near[0]}?")
    return HostingError(what, "name what is there" + _known(holder))


def _known(holder: Any) -> str:
    """What could be meant: callables that were made there, not imported."""
    home = getattr(holder, "__name__", None)
    names = [
        name for name, value in vars(holder).items()
        if not name.startswith("_") and callable(value) and getattr(value, "__module__", home) == home
    ] if hasattr(holder, "__dict__") else []  # fmt: skip
    return f"; there are {', '.join(sorted(names)[:6])}" if names else ""


def _check_arguments(app: Any, kind: str, module_name: str, attribute: str) -> None:
    """A function that makes an application is easily named for one."""
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):
        return
    wanted = ARGUMENTS[kind]
    try:
        signature.bind(*wanted)
    except TypeError:
        named = _named(module_name, attribute)
        what = f"{named} takes {signature}, but {_KINDS[kind]} is called with ({', '.join(wanted)})"
        remedy = f"name {_KINDS[kind]}"
        other = "asgi" if kind == "wsgi" else "wsgi"
        if _binds(signature, ()):
            remedy = f"if it makes the application, write {named}()"
        elif _binds(signature, ARGUMENTS[other]):
            remedy = f"it looks like {other.upper()}: say --{other}"
        raise HostingError(what + (f" ({code_of(app)})" if code_of(app) else ""), remedy) from None


def _binds(signature: inspect.Signature, arguments: tuple[str, ...]) -> bool:
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def _named(module_name: str, attribute: str) -> str:
    return f"{module_name}:{attribute}" if attribute else module_name


def _file(module: Any) -> str:
    return getattr(module, "__file__", None) or "without a file"


def _article(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
