"""The tree itself: who may import whom, how long a file may be, and that each codec has its tests."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from gateway.compiling import COMPILED

ROOT = Path(__file__).resolve().parent.parent
LINES = 520
FILES = sorted(path for room in ("gateway", "protocols") for path in (ROOT / room).rglob("*.py"))
INTERFACES_AND_FRONTS = ("gateway.interfaces", "gateway.fronts")
SHARED = {"gateway.exchange", "gateway.ends", "gateway.errors", "gateway.variables", "gateway.spool", "gateway.site",
          "gateway.requested"}  # fmt: skip


def module(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    """The modules that a file needs when it runs; what only its annotations name is left out."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            assert node.module is not None
            for alias in node.names:
                inner = ROOT / node.module.replace(".", "/") / f"{alias.name}.py"
                found.add(f"{node.module}.{alias.name}" if inner.exists() else node.module)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def files(*packages: str) -> list[Path]:
    return [path for path in FILES if within(module(path), *packages)]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", files("protocols"), ids=named)
def test_protocols_know_octets_and_nothing_else(path: Path) -> None:
    forbidden = {
        "gateway", "socket", "_socket", "ssl", "select", "selectors", "asyncio", "uvloop", "time", "threading",
        "concurrent", "logging", "os", "io", "pathlib", "tempfile", "subprocess", "signal", "multiprocessing",
    }  # fmt: skip
    assert not {name for name in imports(path) if name.split(".")[0] in forbidden}
    calls = {node.func.id for node in ast.walk(ast.parse(path.read_text()))
             if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}  # fmt: skip
    assert not calls & {"open", "print", "input"}


@pytest.mark.parametrize("path", files("gateway.drivers"), ids=named)
def test_drivers_know_only_ends(path: Path) -> None:
    ours = {name for name in imports(path) if within(name, "gateway", "protocols")}
    assert all(within(name, "gateway.ends", "gateway.drivers") for name in ours), ours


@pytest.mark.parametrize("path", files("gateway.fronts"), ids=named)
def test_fronts_know_neither_interfaces_nor_each_other(path: Path) -> None:
    ours = {name for name in imports(path) if within(name, "gateway")}
    assert all(name in SHARED for name in ours), ours


@pytest.mark.parametrize("path", files("gateway.interfaces"), ids=named)
def test_interfaces_know_neither_fronts_nor_each_other(path: Path) -> None:
    """One interface may be several files, whose names begin with the same word."""
    itself = f"gateway.interfaces.{path.stem.partition('_')[0]}"
    ours = {name for name in imports(path) if within(name, "gateway")} - {"gateway.interfaces"}
    others = {name for name in ours if name != itself and not name.startswith(f"{itself}_")}
    assert all(name in SHARED or within(name, "gateway.upstreams", "gateway.hosting") for name in others), others


@pytest.mark.parametrize("path", files("gateway.upstreams", "gateway.processes"), ids=named)
def test_upstreams_and_processes_know_nothing_of_http(path: Path) -> None:
    ours = {name for name in imports(path) if within(name, "gateway", "protocols")}
    known = ("gateway.ends", "gateway.errors", "gateway.upstreams", "gateway.processes")
    assert all(within(name, *known) for name in ours), ours


@pytest.mark.parametrize("path", files("gateway.observe"), ids=named)
def test_logs_know_nothing_of_how_a_message_came_about(path: Path) -> None:
    ours = {name for name in imports(path) if within(name, "gateway")}
    assert all(within(name, "gateway.observe", "gateway.ends") for name in ours), ours


RULES = ("gateway.exchange", "gateway.sides", "gateway.site", "gateway.spool",
         "gateway.routing", "gateway.variables", "gateway.forwarding",
         "gateway.pages", "gateway.hosting", "gateway.pieces", "gateway.requested", *INTERFACES_AND_FRONTS,
         "gateway.upstreams", "gateway.ends", "gateway.errors")  # fmt: skip


@pytest.mark.parametrize("path", files(*RULES), ids=named)
def test_the_rules_touch_no_socket_loop_or_thread(path: Path) -> None:
    forbidden = {"socket", "_socket", "ssl", "select", "asyncio", "uvloop", "threading", "subprocess"}
    if path.name.startswith("asgi"):  # it is called by coroutines: they wait on futures of the loop that runs them
        forbidden.remove("asyncio")
    assert not {name for name in imports(path) if name.split(".")[0] in forbidden}
    assert not {name for name in imports(path) if within(name, "gateway.drivers", "gateway.processes", "gateway.server")}


@pytest.mark.parametrize("path", FILES, ids=named)
def test_nobody_imports_the_command_line_or_the_whole(path: Path) -> None:
    me = module(path)
    known = imports(path)
    if not within(me, "gateway.cli", "gateway.__main__"):
        assert not {name for name in known if within(name, "gateway.cli")}
        assert not {name for name in known if within(name, "gateway.server")}


@pytest.mark.parametrize("path", FILES, ids=named)
def test_flup_s_names_are_for_users_only(path: Path) -> None:
    known = {name for name in imports(path) if within(name, "gateway")}
    if within(module(path), "gateway.flup"):
        allowed = ("gateway.flup", "gateway.worker", "gateway.models", "gateway.ends", "gateway.processes.listen_socket")
        assert all(within(name, *allowed) for name in known), known
    else:
        assert not {name for name in known if within(name, "gateway.flup")}


@pytest.mark.parametrize("path", FILES, ids=named)
def test_no_file_is_too_long_to_be_read_in_one_go(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES


@pytest.mark.parametrize("path", FILES, ids=named)
def test_each_module_says_what_it_is_for(path: Path) -> None:
    tree = ast.parse(path.read_text())
    docstring = ast.get_docstring(tree)
    assert docstring, "a module begins with what it is for"
    definitions = [node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    if definitions and path.name not in ("__init__.py", "__main__.py"):
        assert "Promise:" in docstring


@pytest.mark.parametrize("path", [p for p in files("protocols") if p.name != "__init__.py"], ids=named)
def test_each_codec_has_its_tests(path: Path) -> None:
    named_after_it = list((ROOT / "tests" / "protocols").glob(f"test_{path.stem}*.py"))
    users = [test for test in (ROOT / "tests" / "protocols").glob("test_*.py") if module(path) in imports(test)]
    assert named_after_it or users


def class_defaults(tree: ast.AST) -> list[str]:
    """Names that the body of a class gives the default None; dataclasses and protocols apart."""
    plain = [
        node for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and not any("dataclass" in ast.unparse(d) for d in node.decorator_list)
    ]  # fmt: skip
    lines = [line for node in plain for line in node.body if isinstance(line, ast.AnnAssign) and line.value]
    return [ast.unparse(line.target) for line in lines if ast.unparse(line.value or line) == "None"]


def slice_bounds_with_calls(tree: ast.AST) -> list[str]:
    bounds = [b for node in ast.walk(tree) if isinstance(node, ast.Slice) for b in (node.lower, node.upper) if b]
    calls = [call for bound in bounds for call in ast.walk(bound) if isinstance(call, ast.Call)]
    return [ast.unparse(call) for call in calls if ast.unparse(call.func) != "len"]


@pytest.mark.parametrize("name", COMPILED)
def test_what_is_compiled_keeps_to_what_the_compiler_does_right(name: str) -> None:
    tree = ast.parse((ROOT / name).read_text())
    assert not class_defaults(tree), "None in the body of a class leaves the attribute unset: set it in __init__"
    assert not slice_bounds_with_calls(tree), "it would be called twice: give it a name before"
    coroutines = [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)]
    assert not coroutines, "from Python 3.12 on exceptions do not come out of one"
