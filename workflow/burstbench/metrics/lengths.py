"""Length tables of a run's answered requests, as `characterise lengths` makes them of the trace's (Figs. 7-9)."""

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from burstbench.cli import add_settings
from burstbench.contracts import LENGTH_COUNTS, LENGTH_FITS, LENGTH_TESTS, RESPONSE_BINS, RESPONSE_BY_REQUEST, Contract
from burstbench.errors import UserError
from burstbench.metrics.runs import Cell, add_cells, floats, identity, join
from burstbench.seeds import generator
from burstbench.stats.lengths import length_tables

TABLES: tuple[Contract, ...] = (LENGTH_COUNTS, LENGTH_FITS, LENGTH_TESTS, RESPONSE_BY_REQUEST, RESPONSE_BINS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `burstbench metrics lengths`."""
    add_settings(parser)
    add_cells(parser)
    for contract in TABLES:
        option = "--" + contract.name.replace("_", "-")
        parser.add_argument(option, type=Path, required=True, help=f"to write: {contract.description}")


def run(args: argparse.Namespace) -> None:
    """Run the verb."""
    lengths(args.cell, {contract.name: getattr(args, contract.name) for contract in TABLES}, args.settings)


def lengths(
    folders: Sequence[tuple[Path, Path]], outputs: Mapping[str, Path], settings: Mapping[str, Any]
) -> dict[str, pa.Table]:
    """Make the five length tables, one source "run <model> <gpu>" each, the seeds of a cell pooled.

    The order of `folders` does not matter.

    Args:
        folders: plan folder and serve folder of each cell.
        outputs: the file of each table, by contract name.
        settings: as of `characterise lengths`; `seed` is the study's root seed.

    Returns:
        The tables, by contract name.

    Raises:
        UserError: a cell's files are wrong or disagree, a cell stands twice, or an answered request has no token count.
    """
    cells: dict[Cell, tuple[Path, Path]] = {}
    for plan_dir, serve_dir in folders:
        cell = identity(plan_dir, serve_dir)
        if cell in cells:
            raise UserError(f"{serve_dir}: cell {tuple(cell)} again, first in {cells[cell][1]}")
        cells[cell] = (plan_dir, serve_dir)
    pooled: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
    for cell, (plan_dir, serve_dir) in sorted(cells.items()):
        pooled[cell.model, cell.gpu].append(answered(plan_dir, serve_dir))
    tables: dict[str, list[pa.Table]] = {contract.name: [contract.empty()] for contract in TABLES}
    for (model, gpu), pieces in pooled.items():
        request, response = (np.concatenate([piece[index] for piece in pieces]) for index in (0, 1))
        if not len(request):
            continue
        rng = generator(settings["seed"], "metrics", "lengths", model, gpu)
        for name, table in length_tables(f"run {model} {gpu}", request, response, settings, rng).items():
            tables[name].append(table)
    whole = {name: pa.concat_tables(pieces) for name, pieces in tables.items()}
    for contract in TABLES:
        contract.write(whole[contract.name], outputs[contract.name])
    return whole


def answered(plan_dir: Path, serve_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    """Prompt and response tokens of a cell's answered requests, in the order of the plan: int64, shape (n,) each."""
    _, requests = join(plan_dir, serve_dir)
    requests = requests.filter(pc.equal(requests.column("outcome"), "ok"))
    prompt = floats(requests, "prompt_tokens")
    unknown = np.flatnonzero(np.isnan(prompt))
    if unknown.size:
        name = requests.column("request_id")[int(unknown[0])].as_py()
        raise UserError(f"{serve_dir / 'requests.parquet'}: request_id {name}: answered, but prompt_tokens is missing")
    return prompt.astype(np.int64), requests.column("response_tokens").to_numpy()
