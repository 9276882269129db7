"""What code a job depends on, as checksums that ignore comments, docstrings and layout.

Snakemake does not see the modules that a command imports. Each rule therefore carries, as a parameter, the checksums of
its verb's module and of all modules of this package which that imports. A change in one of them runs the rule again; a
touched file, a new comment or a fresh clone does not.
"""

import ast
import contextlib
import functools
import hashlib
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from burstbench.errors import UserError
from burstbench.files import read_json, write_json

PACKAGE = Path(__file__).parent
# Left out: the package's own __init__ (it holds the version number alone) and the command line, which only hands over
# to the verb's module. A change there makes no other data.
EXCLUDED = {"burstbench", "burstbench.cli"}
CONTRACTS = "burstbench.contracts"


def code(module: str) -> dict[str, str]:
    """Return the checksums of a module of this package and of all that it imports from it.

    Args:
        module: for example ``"trace.twin"``.

    Returns:
        Module name (without ``burstbench.``) to 12 hexadecimal digits, sorted. The table of contracts counts only with
        the contracts that are used, so that a new column of one table does not run the makers of the others again.
    """
    root = f"burstbench.{module}"
    if _path(root) is None:
        raise FileNotFoundError(f"no module {root}")
    found: set[str] = set()
    contracts: set[str] = set()
    waiting = [root]
    while waiting:
        name = waiting.pop()
        if name in found or name in EXCLUDED:
            continue
        found.add(name)
        imported, used = _imports(name)
        contracts |= used
        waiting.append(name.rpartition(".")[0])  # a module is imported with its package
        waiting += [other for other in imported if other not in found]
    sums = {name: _checksum(name) for name in found if name != CONTRACTS}
    if CONTRACTS in found:
        sums[CONTRACTS] = _checksum_of_names(CONTRACTS, frozenset(contracts))
    _keep()
    return {name.removeprefix("burstbench."): sums[name] for name in sorted(sums)}


def _path(module: str) -> Path | None:
    """The file of a module, or None where it is not one of this package."""
    parts = module.split(".")
    if parts[0] != "burstbench":
        return None
    base = PACKAGE.joinpath(*parts[1:])
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@functools.cache
def _text(module: str) -> bytes:
    path = _path(module)
    assert path is not None
    return path.read_bytes()


@functools.cache
def _tree(module: str) -> ast.Module:
    tree = ast.parse(_text(module), str(_path(module)))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:]
    return tree


# What was found in each module's text stands beside the compiled modules: reading all of them takes seconds, and every
# Snakemake and every job of a cluster asks anew.
def _kept_in() -> Path:
    return PACKAGE / "__pycache__/fingerprints.json"


def _by() -> str:
    return f"Python {platform.python_version()} {_digest(Path(__file__).read_text(encoding='utf-8'))}"


@functools.cache
def _kept() -> dict[str, Any]:
    """What is known by module: the checksum of its text, and what was found in that text."""
    try:
        found = read_json(_kept_in())
    except (OSError, UserError):
        return {}
    return dict(found["modules"]) if found["by"] == _by() else {}


@functools.cache
def _facts(module: str) -> dict[str, Any]:
    """The facts of a module's text that are known, to be added to."""
    text = hashlib.sha256(_text(module)).hexdigest()
    if _kept().get(module, {}).get("text") != text:
        _kept()[module] = {"text": text}
    facts: dict[str, Any] = _kept()[module]
    return facts


_new: list[str] = []


def _known(module: str, name: str, find: Callable[[], Any]) -> Any:
    facts = _facts(module)
    if name not in facts:
        facts[name] = find()
        _new.append(name)
    return facts[name]


def _keep() -> None:
    """Write down what was found anew; in a clone that cannot be written to it is found again each time."""
    if _new:
        _new.clear()
        with contextlib.suppress(OSError, UserError):
            write_json(_kept_in(), {"by": _by(), "modules": _kept()})


def _imports(module: str) -> tuple[frozenset[str], frozenset[str]]:
    """The modules of this package that a module imports, and the names it takes from the contracts ('*': all)."""
    modules, names = _known(module, "imports", lambda: _find_imports(module))
    return frozenset(name for name in modules if _path(name)), frozenset(names)


def _find_imports(module: str) -> tuple[list[str], list[str]]:
    modules: set[str] = set()
    names: set[str] = set()
    aliases: set[str] = set()
    tree = _tree(module)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                modules.add(alias.name)
                if alias.name == CONTRACTS:
                    names.add("*")
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                modules |= {node.module, whole}
                if node.module == CONTRACTS:
                    names.add(alias.name)
                if whole == CONTRACTS:
                    aliases.add(alias.asname or alias.name)
    attributes: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            names.add(node.attr)
            attributes.add(id(node.value))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in aliases and id(node) not in attributes:
            names.add("*")
    return sorted(name for name in modules if name.startswith("burstbench.")), sorted(names)


def _checksum(module: str) -> str:
    found: str = _known(module, "checksum", lambda: _digest(ast.dump(_tree(module))))
    return found


def _checksum_of_names(module: str, names: frozenset[str]) -> str:
    """The checksum of some top-level definitions of a module and of what they need in it."""
    found: str = _known(module, " ".join(sorted(names)), lambda: _find_checksum_of_names(module, names))
    return found


def _find_checksum_of_names(module: str, names: frozenset[str]) -> str:
    definitions: dict[str, ast.stmt] = {}
    for statement in _tree(module).body:
        if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            definitions[statement.name] = statement
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    definitions[target.id] = statement
    # A name that is not defined at the top, or a look-up of names at run time, makes the whole module count.
    if "*" in names or "CONTRACTS" in names or not names <= definitions.keys():
        return _checksum(module)
    found: set[str] = set()
    waiting = sorted(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for node in ast.walk(definitions[name]):
            if isinstance(node, ast.Name) and node.id in definitions:
                waiting.append(node.id)
    return _digest("".join(name + ast.dump(definitions[name]) for name in sorted(found)))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
