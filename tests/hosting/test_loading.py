"""From `module:callable` to an application, and what is said where there is none."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.hosting import HostingError, load_application
from gateway.hosting.loading import is_asgi

WSGI = "def application(environ, start_response):\n    return []\n"
ASGI = "async def app(scope, receive, send):\n    pass\n"
Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes modules into the current directory, and has them forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def make(source: str, name: str = "hosted_module") -> None:
        path = tmp_path / (name.replace(".", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)

    yield make
    for name in set(sys.modules) - before:
        del sys.modules[name]


def refused(name: str, kind: str | None = None) -> tuple[str, str]:
    with pytest.raises(HostingError) as caught:
        load_application(name, kind)
    return caught.value.what, caught.value.remedy


# ---------------------------------------------------------------------- what can be loaded


@pytest.mark.parametrize(
    ("source", "name", "kind"),
    [
        (WSGI, "hosted_module:application", "wsgi"),
        (WSGI, "hosted_module", "wsgi"),
        (ASGI, "hosted_module:app", "asgi"),
        (ASGI, "hosted_module", "asgi"),
        (WSGI + ASGI, "hosted_module", "wsgi"),
        (f"{WSGI}class site:\n  class inner:\n    app = application", "hosted_module:site.inner.app", "wsgi"),
        (f"{WSGI}def create_app(debug=False):\n    return application", "hosted_module:create_app()", "wsgi"),
        (f"{WSGI}class Site:\n  def make(self):\n    return application", "hosted_module:Site().make()", "wsgi"),
        (f"{WSGI}class Site:\n  @property\n  def app(self):\n    return application", "hosted_module:Site().app", "wsgi"),
    ],
)  # fmt: skip
def test_what_a_name_may_be(write: Write, source: str, name: str, kind: str) -> None:
    write(source)
    app, found = load_application(name)
    assert callable(app)
    assert found == kind


def test_a_module_in_a_package(write: Write) -> None:
    write("", "hosted_package.__init__")
    write(WSGI, "hosted_package.web.wsgi")
    write("", "hosted_package.web.__init__")
    app, _ = load_application("hosted_package.web.wsgi")
    assert app.__module__ == "hosted_package.web.wsgi"


def test_the_current_directory_comes_first_on_the_path(write: Write, tmp_path: Path) -> None:
    write(WSGI)
    sys.path.append(str(tmp_path))
    load_application("hosted_module")
    assert sys.path[0] == str(tmp_path)
    load_application("hosted_module")
    assert sys.path.count(str(tmp_path)) == 2


class WsgiObject:
    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        return []


class AsgiObject:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...

    async def method(self, scope: Any, receive: Any, send: Any) -> None: ...


async def asgi(extra: int, scope: Any, receive: Any, send: Any) -> None: ...


@pytest.mark.parametrize(
    ("app", "is_one"),
    [
        (WsgiObject(), False), (WsgiObject, False), (AsgiObject(), True), (AsgiObject, False), (AsgiObject().method, True),
        (asgi, True), (functools.partial(asgi, 1), True), (functools.partial(AsgiObject()), True), (print, False),
        (object(), False),
    ],
)  # fmt: skip
def test_an_asgi_application_is_told_by_its_call(app: Any, is_one: bool) -> None:
    assert is_asgi(app) is is_one


def test_what_is_given_wins(write: Write) -> None:
    write("class Old:\n  def __init__(self, scope, receive, send): pass\n  def __await__(self): yield")
    assert load_application("hosted_module:Old", "asgi")[1] == "asgi"


def test_real_frameworks(write: Write) -> None:
    write(
        "import flask\napp = flask.Flask('hosted_module')\n"
        "def create_app():\n    return app\n"
        "import django.conf\ndjango.conf.settings.configure(ROOT_URLCONF='hosted_module')\n"
        "import django.core.wsgi, django.core.asgi\n"
        "dw = django.core.wsgi.get_wsgi_application()\nda = django.core.asgi.get_asgi_application()\n"
    )
    assert load_application("hosted_module")[1] == "wsgi"
    assert load_application("hosted_module:create_app()")[1] == "wsgi"
    assert load_application("hosted_module:app.wsgi_app")[1] == "wsgi"
    assert load_application("hosted_module:dw")[1] == "wsgi"
    assert load_application("hosted_module:da")[1] == "asgi"


# ---------------------------------------------------------------------- what can't


def test_a_module_that_is_not_there(write: Write, tmp_path: Path) -> None:
    write(WSGI, "hosted_modul")
    what, remedy = refused("hosted_module")
    assert what.startswith(f"there is no module hosted_module: neither in {tmp_path} nor")
    assert remedy == "did you mean hosted_modul?"
    what, remedy = refused("nothing_like_it")
    assert "--chdir" in remedy


def test_a_package_that_is_not_there(write: Write) -> None:
    write("", "hosted_package.__init__")
    write(WSGI, "hosted_package.webb")
    what, remedy = refused("hosted_package.web:app")
    assert "there is no module hosted_package.web:" in what
    assert remedy == "did you mean hosted_package.webb?"
    what, remedy = refused("hosted_pakage.web:app")
    assert "no module hosted_pakage, which hosted_pakage.web is in" in what
    assert remedy == "did you mean hosted_package?"


@pytest.mark.parametrize(
    ("source", "said", "line", "remedy"),
    [
        ("import not_here_at_all", "ModuleNotFoundError: No module named 'not_here_at_all'", 1, "install not_here_at_all"),
        ("x = 1\n\nraise ValueError('no\\nsecond line')", "ValueError: no", 3, "correct that line"),
        ("def broken(:\n    pass", "SyntaxError: ", 1, "correct that line"),
        ("import sys\nsys.exit('usage')", "SystemExit: usage", 2, "__main__"),
        ("import json\njson.loads('{')", "json.decoder.JSONDecodeError: Expecting", 2, "correct that line"),
        ("class E(Exception):\n  def __str__(self):\n    1/0\nraise E", "hosted_module.E", 4, "correct that line"),
    ],
)
def test_a_module_that_fails_tells_where(
    write: Write, tmp_path: Path, source: str, said: str, line: int, remedy: str
) -> None:
    write(source)
    what, told = refused("hosted_module:app")
    assert what.startswith("module hosted_module can't be imported: " + said)
    assert what.endswith(f"({tmp_path}/hosted_module.py:{line})")
    assert remedy in told


def test_the_place_is_the_deepest_in_the_users_code(write: Write, tmp_path: Path) -> None:
    write("import hosted_settings\n")
    write("def read():\n    import json\n    json.loads('{')\n\nread()", "hosted_settings")
    what, _ = refused("hosted_module")
    assert what.endswith(f"({tmp_path}/hosted_settings.py:3)")


def test_an_interrupt_is_no_mistake_of_the_module(write: Write) -> None:
    write("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load_application("hosted_module")


@pytest.mark.parametrize(
    ("source", "name", "said", "remedy"),
    [
        (WSGI, ":aplication", "module hosted_module (", "did you mean hosted_module:application?"),
        (WSGI, ":zzz", "has no attribute 'zzz'", "name what is there; there are application"),
        ("class site:\n  handler = print", ":site.handle", "hosted_module:site (a type) has no", ":site.handler?"),
        ("x = 1", "", "has neither `application` nor `app`", "hosted_module:callable"),
        ("def create_app(): pass", "", "has neither", "write hosted_module:create_app()"),
        ("from os import *\nclass Site: pass", "", "has neither", "there are Site"),
        ("app = 5", ":app", "hosted_module:app is an int, which can't be called", "name the application itself"),
        ("app = None", "", "is a NoneType, which can't be called", ""),
        ("make = 5", ":make()", "hosted_module:make(): it is an int, which can't be called", "write hosted_module:make"),
        ("def make(): pass", ":make()", "hosted_module:make() returned None", "have it return"),
        ("def make():\n  raise ValueError('no')", ":make()", "has made no application: ValueError: no", "correct that line"),
        ("def make(x): pass", ":make()", "has made no application: TypeError: make() missing 1", "correct that line"),
        ("import sys\ndef make(): sys.exit(2)", ":make()", "SystemExit: 2", "correct that line"),
        (ASGI.replace("scope, receive, send", ""), ":app()", "is a coroutine", "without the call: hosted_module:app"),
        ("def make(x): pass", ":make(1)", "calls with arguments", "without parameters"),
        (WSGI, ":application()()", "is no name in a module", "module:factory()"),
        (WSGI, ":a b", "is no name in a module", "module:callable"),
        (WSGI, ":[0]", "is no name in a module", "module:callable"),
        (WSGI, ":", "names nothing in the module", "such as hello:application"),
        ("def __getattr__(name): 1/0", ":app", "can't be had: ZeroDivisionError", "correct that line"),
        ("def make(): pass", ":make", "takes (), but a WSGI application is called with (env", "hosted_module:make()"),
        ("def app(scope, receive, send): pass", ":app", "takes (scope, receive, send), but a WSGI", "say --asgi"),
        ("async def app(scope): pass", ":app", "an ASGI application is called with", "name an ASGI"),
    ],
)  # fmt: skip
def test_an_attribute_that_is_no_application(write: Write, source: str, name: str, said: str, remedy: str) -> None:
    write(source)
    what, told = refused(f"hosted_module{name}")
    assert said in what
    assert remedy in told


def test_the_wrong_kind_is_told(write: Write) -> None:
    write(WSGI)
    what, remedy = refused("hosted_module", "asgi")
    assert "takes (environ, start_response), but an ASGI application is called with (scope, receive, send)" in what
    assert remedy == "it looks like WSGI: say --wsgi"


def test_what_does_not_tell_its_arguments_is_believed(write: Write) -> None:
    write("app = max\nother = type('x', (), {'__call__': lambda *all: []})()")
    assert load_application("hosted_module")[1] == "wsgi"
    assert load_application("hosted_module:other")[1] == "wsgi"


@pytest.mark.parametrize(
    ("name", "said", "remedy"),
    [
        ("hello.py", "names a file", "write hello,"), ("./web/hello.py:app", "names a file", "write web.hello:app,"),
        (":app", "names no module", "module:callable"), ("", "names no module", "module:callable"),
        ("hello world:app", "names no module", "module:callable"), ("..x:app", "names no module", "module:callable"),
    ],
)  # fmt: skip
def test_what_is_no_name(write: Write, name: str, said: str, remedy: str) -> None:
    what, told = refused(name)
    assert said in what
    assert remedy in told
