"""The pages of docs/reference, made from the code that they describe: `python -m burstbench.reference FOLDER`."""

import argparse
import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from burstbench import cli, contracts
from burstbench.config import ROOT, load_yaml
from burstbench.files import write_text
from burstbench.metrics import definitions

MADE = "<!-- Made by `make docs`; do not edit. -->"


def pages() -> dict[str, str]:
    """Return the text of each page by its file name."""
    return {
        "commands.md": commands(),
        "configuration.md": configuration(),
        "contracts.md": tables(),
        "metrics.md": metrics(),
    }


def commands() -> str:
    """Every verb with its options and an example, from the parser."""
    lines = ["# Command line", MADE, "", "`burstbench VERB` or `burstbench ROOM VERB`; `--help` shows the same.", ""]
    heading, _, codes = cli.EXIT_CODES.partition("\n")
    lines += [f"{heading[0].upper()}{heading[1:]}", "", "| status | meaning |", "|---|---|"]
    lines += [
        f"| {status} | {meaning} |" for status, meaning in (line.split(maxsplit=1) for line in codes.splitlines())
    ]
    room = ""
    parsers = _parsers(cli.make_parser()[0])
    for words, verb, _ in cli.verbs():
        *parents, _name = words.split()
        if parents and parents[0] != room:
            room = parents[0]
            lines += ["", f"## {room}", "", f"{cli.ROOM_TEXTS[room][0].upper()}{cli.ROOM_TEXTS[room][1:]}."]
        elif not parents and not room:
            room = " "
            lines += ["", "## Without a room"]
        lines += ["", f"### burstbench {words}", "", f"{verb.text[0].upper()}{verb.text[1:]}.", ""]
        lines += ["| option | needed | meaning |", "|---|---|---|"]
        for action in parsers[words]._actions:
            if action.dest != "help":
                needed = "yes" if action.required else "no"
                lines.append(f"| {_option(action)} | {needed} | {_cell(action.help or '')} |")
        lines += ["", "```text", inspect.cleandoc(cli.example(words, verb)), "```"]
    return "\n".join(lines) + "\n"


def configuration() -> str:
    """Every key of a study, from the schema, with its value in the default study."""
    schema = load_yaml(ROOT / "config/schema.yaml")
    study = load_yaml(ROOT / "config/study.yaml")
    lines = [
        "# Configuration",
        MADE,
        "",
        "Every key of `config/study.yaml` and of the overlays in `config/studies`, from `config/schema.yaml`. An",
        "unknown key is an error. `<name>` stands for a name that you choose, `[]` for each entry of a list.",
    ]
    for key, part in schema["properties"].items():
        lines += ["", f"## {key}", "", "| key | value | needed | default | meaning |", "|---|---|---|---|---|"]
        for path, one, needed, default in _keys(key, part, key in schema["required"], study.get(key, _NONE), schema):
            value = "" if default is _NONE or (one["shown"] and default) else default
            shown = "" if value == "" else f"`{_cell(json.dumps(value, ensure_ascii=False))}`"
            row = (f"`{path}`", one["kind"], "yes" if needed else "no", shown, _cell(one["description"]))
            lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def tables() -> str:
    """Every table that a room hands to the next, from the contracts."""
    lines = [
        "# Tables",
        MADE,
        "",
        "What one room hands to the next. A table is checked when it is written and when it is read; units and",
        "descriptions travel inside the Parquet file.",
    ]
    for contract in contracts.CONTRACTS.values():
        lines += ["", f"## {contract.name}", "", contract.description]
        if contract.key:
            lines += ["", f"One row for each {', '.join(f'`{name}`' for name in contract.key)}."]
        if contract.ascending:
            lines += ["", f"`{contract.ascending}` never decreases."]
        lines += ["", "| column | type | unit | values | meaning |", "|---|---|---|---|---|"]
        for column in contract.columns:
            row = (f"`{column.name}`", str(column.type), column.unit, _limits(column), _cell(column.description))
            lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def metrics() -> str:
    """Every metric with its unit and formula, from the functions that compute them."""
    general = inspect.cleandoc(definitions.__doc__ or "").partition("\n\n")[2]
    lines = ["# Metrics", MADE, "", general, ""]
    lines += ["| metric | unit | definition |", "|---|---|---|"]
    for scalar, unit in definitions.SCALARS:
        lines.append(f"| `{scalar.__name__}` | {unit} | {_definition(scalar)} |")
    for function, unit, chosen in (*definitions.QUANTITIES, *definitions.STATES):
        listed = ", ".join(f"`{function.__name__}_{name}`" for name in chosen)
        lines.append(f"| {listed} | {unit} | {_definition(function)} |")
    lines += [
        "",
        "`mean` is the arithmetic mean (of a state: by time), `p10` to `p99` are percentiles, `sd` is the standard",
        "deviation with n − 1.",
    ]
    return "\n".join(lines) + "\n"


class _None:
    """No default."""


_NONE = _None()


def _parsers(parser: argparse.ArgumentParser, words: str = "") -> dict[str, argparse.ArgumentParser]:
    """The parser of each verb, by its words."""
    found: dict[str, argparse.ArgumentParser] = {}
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for action in below:
        for name, sub in action.choices.items():
            found |= _parsers(sub, f"{words} {name}".strip())
    return found or {words: parser}


def _option(action: argparse.Action) -> str:
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    if action.nargs == 0:
        return names
    value = action.metavar or (action.dest.upper() if action.option_strings else action.dest)
    if action.choices is not None:
        value = "\\|".join(map(str, action.choices))
    return f"{names} {value}".strip()


def _keys(
    path: str, part: Mapping[str, Any], needed: bool, default: Any, schema: Mapping[str, Any]
) -> Iterator[tuple[str, dict[str, Any], bool, Any]]:
    """Yield path, kind and description, whether it is needed, and default, of a key and of all below it."""
    if "$ref" in part:
        part = schema["$defs"][part["$ref"].rpartition("/")[2]] | {k: v for k, v in part.items() if k != "$ref"}
    inner = part.get("properties", {})
    others = part.get("additionalProperties")
    items = part.get("items") if isinstance(part.get("items"), dict) and "properties" in part["items"] else None
    shown = bool(inner or isinstance(others, dict) or items)
    yield (
        path,
        {"kind": _kind(part, schema), "description": part.get("description", ""), "shown": shown},
        needed,
        default,
    )
    for name, below in inner.items():
        value = default.get(name, _NONE) if isinstance(default, dict) else _NONE
        yield from _keys(f"{path}.{name}", below, name in part.get("required", ()), value, schema)
    if isinstance(others, dict):
        yield from _keys(f"{path}.<name>", others, False, _NONE, schema)
    if items:
        yield from _keys(f"{path}[]", items, True, _NONE, schema)


_LIMITS = (("minimum", "≥ {}"), ("exclusiveMinimum", "> {}"), ("maximum", "≤ {}"), ("exclusiveMaximum", "< {}"))


def _kind(part: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if "$ref" in part:
        return _kind(schema["$defs"][part["$ref"].rpartition("/")[2]], schema)
    if "enum" in part:
        return ", ".join(f"`{value}`" for value in part["enum"])
    if "const" in part:
        return f"`{part['const']}`"
    for several in ("oneOf", "anyOf"):
        if several in part:
            return " or ".join(dict.fromkeys(_kind(one, schema) for one in part[several]))
    kind = part.get("type", "")
    kind = " or ".join(kind) if isinstance(kind, list) else str(kind)
    kind = {"object": "mapping", "array": "list", "string": "text", "boolean": "true or false"}.get(kind, kind)
    if kind == "list" and isinstance(part.get("items"), dict):
        kind += f" of {_kind(part['items'], schema)}"
    limits = [text.format(part[key]) for key, text in _LIMITS if key in part]
    return " ".join([kind, ", ".join(limits)]).strip()


def _limits(column: contracts.Column) -> str:
    said = [", ".join(f"`{value}`" for value in column.allowed)] if column.allowed else []
    said += [f"≥ {column.minimum:g}"] if column.minimum is not None else []
    said += [f"≤ {column.maximum:g}"] if column.maximum is not None else []
    said += ["may be missing"] if column.nullable else []
    return "; ".join(said)


def _definition(function: Any) -> str:
    return _cell(re.sub(r" \[[^\]]*\]", "", " ".join(inspect.cleandoc(function.__doc__).split()), count=1))


def _cell(text: str) -> str:
    """Text for a cell of a Markdown table."""
    return re.sub(r"<(\w+)>", r"&lt;\1&gt;", " ".join(text.split()).replace("|", "\\|"))


def main() -> None:
    """Write the pages into a folder."""
    for name, text in pages().items():
        write_text(Path(sys.argv[1]) / name, text)


if __name__ == "__main__":
    main()
