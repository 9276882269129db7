"""Two studies side by side: parameters, inputs and code that differ, and numbers that moved beyond their intervals."""

import argparse
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burstbench import contracts
from burstbench.config import ROOT
from burstbench.contracts import Contract
from burstbench.errors import UserError
from burstbench.files import read_json, write_text
from burstbench.paper.document import flatten

TEMPLATE = ROOT / "workflow/report/compare.html.j2"
SHOWN = 15  # rows of a table in a terminal; the page has them all


@dataclass(frozen=True)
class Numbers:
    """A table whose numbers have intervals: files, contract, and the columns of value and interval."""

    files: str
    contract: Contract
    value: str
    low: str = "low"
    high: str = "high"


NUMBERS = (
    Numbers("metrics/*/summary.parquet", contracts.SUMMARY, "mean"),
    Numbers("characterise/periodicity.parquet", contracts.PERIODICITY, "value"),
    Numbers("characterise/doublings.parquet", contracts.DOUBLINGS, "per_day"),
    Numbers("characterise/gamma_windows.parquet", contracts.GAMMA_WINDOWS, "alpha", "alpha_low", "alpha_high"),
    Numbers("characterise/length_tests.parquet", contracts.LENGTH_TESTS, "value"),
    Numbers("metrics/*/length_tests.parquet", contracts.LENGTH_TESTS, "value"),
    Numbers("characterise/failures.parquet", contracts.FAILURES, "rate"),
    Numbers("characterise/daily_failures.parquet", contracts.DAILY_FAILURES, "rate"),
    Numbers("characterise/failure_loads.parquet", contracts.FAILURE_LOADS, "rate"),
)
NONE = "–"  # what one of the studies does not have


@dataclass(frozen=True)
class Table:
    """One part of the comparison: rows of texts below a header, and what to say above them."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    note: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("first", type=Path, metavar="RESULTS", help="folder of a finished study")
    parser.add_argument("second", type=Path, metavar="RESULTS", help="folder of another")
    parser.add_argument("--html", type=Path, metavar="HTML", help="page to write: the same, with all rows")


def run(args: argparse.Namespace) -> None:
    """Print the comparison, and write the page where one is asked for."""
    from tabulate import tabulate

    tables = compare(args.first, args.second)
    for table in tables:
        print(f"\n{table.title}: {table.note or len(table.rows)}")
        if table.rows:
            print(tabulate(table.rows[:SHOWN], headers=table.header, disable_numparse=True))
        if len(table.rows) > SHOWN:
            print(f"… and {len(table.rows) - SHOWN} more; --html shows them all")
    if args.html:
        write_text(args.html, page(args.first, args.second, tables))


def compare(first: Path, second: Path) -> list[Table]:
    """Compare two finished studies.

    A number has moved beyond its interval where the intervals of the two studies do not touch.

    Args:
        first: folder of results.
        second: folder of others.

    Returns:
        The parts, in the order in which they are read: parameters, inputs, code and versions, verdicts, numbers, files.

    Raises:
        UserError: one of the folders is not of a finished study.
    """
    if first.resolve() == second.resolve():
        raise UserError(f"{first} and {second}: found the same folder twice, expected two studies")
    names = (_name(first, second), _name(second, first))
    records = [_record(folder) for folder in (first, second)]
    parameters = [dict(flatten(_object(folder / "parameters.json"))) for folder in (first, second)]
    code = [{name: sums for job in record["jobs"] for name, sums in job["code"].items()} for record in records]
    return [
        _differences("Parameters that differ", ("key", *names), *parameters),
        _differences("Inputs that differ", ("file", *names), *(_inputs(record) for record in records)),
        _differences("Versions and code that differ", ("name", *names), *(
            {name: str(version) for name, version in record["software"].items()} | modules
            for record, modules in zip(records, code, strict=True)
        )),
        _differences("Verdicts that differ", ("claim", *names), *(_verdicts(folder) for folder in (first, second))),
        _moved(first, second, names),
        _files(records, names),
    ]  # fmt: skip


def page(first: Path, second: Path, tables: list[Table]) -> str:
    """Return the comparison as one page that asks the network for nothing."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(TEMPLATE.name).render(first=first, second=second, tables=tables)


def _differences(title: str, header: tuple[str, ...], first: Mapping[str, str], second: Mapping[str, str]) -> Table:
    keys = [*first, *(key for key in second if key not in first)]
    pairs = [(key, first.get(key, NONE), second.get(key, NONE)) for key in keys]
    return Table(title, header, [pair for pair in pairs if pair[1] != pair[2]])


def _name(folder: Path, other: Path) -> str:
    """The folder's own name, or its path where the other's name is the same."""
    return folder.name if folder.resolve().name != other.resolve().name else str(folder)


def _record(folder: Path) -> dict[str, Any]:
    record = _object(folder / "provenance.json")
    for key in ("study", "files", "jobs", "software"):
        if key not in record:
            raise UserError(f"{folder / 'provenance.json'}: key {key!r} is missing, expected a study's record")
    return record


def _object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected the folder of a finished study, like results/default")
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path}: found {type(value).__name__}, expected a JSON object")
    return value


def _inputs(record: Mapping[str, Any]) -> dict[str, str]:
    """Checksums of what no job of the study made."""
    root = f"results/{record['study']}/"
    made = {path for job in record["jobs"] for path in job["outputs"] if path.startswith(root)}
    return {path: f"{said['sha256'][:12]}…" for path, said in record["files"].items() if path not in made}


def _verdicts(folder: Path) -> dict[str, str]:
    rows = contracts.SCORECARD.read(folder / "scorecard.csv").to_pylist()
    return {f"{row['claim']}. {row['title']}: {row['part']}": f"{row['verdict']} ({row['measured']})" for row in rows}


def _values(folder: Path, numbers: Numbers) -> dict[tuple[str, ...], tuple[float, float, float]]:
    """Value and interval by file and key, of the rows that have both."""
    found = {}
    for path in sorted(folder.glob(numbers.files)):
        file = str(path.relative_to(folder))
        for row in numbers.contract.read(path).to_pylist():
            value, low, high = row[numbers.value], row[numbers.low], row[numbers.high]
            if None not in (value, low, high):
                key = [
                    f"{row[name]:g}" if isinstance(row[name], float) else str(row[name])
                    for name in numbers.contract.key
                ]
                found[(file, *key)] = (value, low, high)
    return found


def _moved(first: Path, second: Path, names: tuple[str, str]) -> Table:
    rows: list[tuple[float, tuple[str, ...]]] = []
    compared, alone = 0, [0, 0]
    for numbers in NUMBERS:
        one, two = _values(first, numbers), _values(second, numbers)
        compared += len(one.keys() & two.keys())
        alone[0] += len(one.keys() - two.keys())
        alone[1] += len(two.keys() - one.keys())
        for key in one.keys() & two.keys():
            (value, low, high), (other, other_low, other_high) = one[key], two[key]
            if high < other_low or other_high < low:
                change = abs(other - value) / max(abs(value), abs(other))
                which = " ".join(word for word in key[1:] if word != "-1")
                rows.append((-change, (key[0], which, _interval(one[key]), _interval(two[key]), _change(value, other))))
    note = f"{len(rows)} of {compared} that both have"
    for count, name in zip(alone, names, strict=True):
        note += f"; {count} only in {name}" if count else ""
    header = ("table", "number", *names, "change")
    return Table("Numbers that moved beyond their intervals", header, [row for _, row in sorted(rows)], note)


def _interval(number: tuple[float, float, float]) -> str:
    return "{:.4g} [{:.4g}, {:.4g}]".format(*number)


def _change(value: float, other: float) -> str:
    return f"{100 * (other - value) / abs(value):+.3g} %" if value else f"{other - value:+.3g}"


def _files(records: Iterable[Mapping[str, Any]], names: tuple[str, str]) -> Table:
    """How many files of each folder are the same bytes."""
    sums = []
    for record in records:
        root = f"results/{record['study']}/"
        made = {
            path.removeprefix(root): said["sha256"] for path, said in record["files"].items() if path.startswith(root)
        }
        sums.append(made)
    one, two = sums
    same = {path for path in one.keys() & two.keys() if one[path] == two[path]}
    groups = (same, (one.keys() & two.keys()) - same, one.keys() - two.keys(), two.keys() - one.keys())
    counted = [Counter(path.split("/")[0] for path in group) for group in groups]
    rows = [(folder, *(str(counts[folder]) for counts in counted)) for folder in sorted(set().union(*counted))]
    note = f"{len(same)} are the same bytes, {len(groups[1])} are not"
    return Table("Files", ("folder or file", "same", "other", *(f"only in {name}" for name in names)), rows, note)
