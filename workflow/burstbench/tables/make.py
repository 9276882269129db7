"""Make one table: Markdown, LaTeX, CSV, and caption and inputs as JSON."""

import argparse
import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from burstbench.errors import UserError
from burstbench.figures.inputs import Artifact, Inputs, badge, by_name, facts_object, named_path
from burstbench.files import replaced, sha256, write_json, write_text
from burstbench.tables import contents, formats, simulation, supplement, validation
from burstbench.tables.made import Made

# The paper's tables, and the others.
TABLES: dict[str, tuple[Artifact, Callable[[Inputs, Sequence[Path]], Made]]] = {
    "table1": (contents.TABLE1, contents.table1),
    "table2": (contents.TABLE2, contents.table2),
    "table3": (contents.TABLE3, contents.table3),
    **validation.TABLES,
    **supplement.TABLES,
    **simulation.TABLES,
}


def make_table(
    table_id: str, tables: Mapping[str, Path], runs: Sequence[Path], facts: Mapping[str, Any], out: Path
) -> list[Path]:
    """Make a table and write it in all formats.

    Args:
        table_id: key of `TABLES`.
        tables: paths by name.
        runs: run records, for Table II.
        facts: the study's facts.
        out: path without suffix; `.md .tex .csv .json` are written. The CSV holds the cells as they are shown.

    Returns:
        The files written.

    Raises:
        UserError: unknown table, wrong inputs or facts, or a table that breaks its contract.
    """
    if table_id not in TABLES:
        raise UserError(f"found table {table_id!r}, expected one of {', '.join(TABLES)}")
    artifact, make = TABLES[table_id]
    inputs = Inputs(artifact, tables, facts)
    made = make(inputs, runs)
    title = made.artifact.title
    mark = badge(made.artifact, facts)
    shown = f"{made.caption} [{mark}]" if mark else made.caption
    files = {suffix: out.with_name(f"{out.name}.{suffix}") for suffix in ("md", "tex", "csv", "json")}
    write_text(files["md"], formats.markdown(title, shown, made.rows))
    write_text(files["tex"], formats.latex(table_id, title, shown, made.rows))
    with replaced(files["csv"]) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(made.rows)
    record = inputs.record(mark, title, made.caption)
    record["inputs"] += [{"name": "run", "path": str(path), "sha256": sha256(path)} for path in runs]
    write_json(files["json"], record)
    return list(files.values())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("name", metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument(
        "--table", type=named_path, action="append", metavar="NAME=PATH", help="a table it is made from"
    )
    parser.add_argument(
        "--run", dest="runs", type=Path, nargs="+", action="extend", default=[], metavar="JSON", help="run records"
    )
    parser.add_argument("--facts", type=facts_object, required=True, help="the study's facts, a JSON object")
    parser.add_argument("--out", type=Path, required=True, help="path of the files, without suffix")


def run(args: argparse.Namespace) -> None:
    """Make the table."""
    make_table(args.name, by_name(args.table), args.runs, args.facts, args.out)
