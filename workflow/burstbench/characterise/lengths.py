"""`burstbench characterise lengths`: histograms, fits and relations of token lengths (Figs. 7-9)."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from burstbench import contracts
from burstbench.characterise.cells import Cells, read_cells
from burstbench.cli import add_settings
from burstbench.seeds import generator
from burstbench.stats.lengths import length_tables


def trace_lengths(cells: Cells, settings: dict[str, Any]) -> dict[str, pa.Table]:
    """The five length tables, every cell with an answered request as the source 'trace <service> <model>'.

    Args:
        cells: a trace with failed, request_tokens and response_tokens.
        settings: as `burstbench.stats.lengths.length_tables`, and `seed`.
    """
    answered = ~cells.column("failed")
    request, response = cells.column("request_tokens"), cells.column("response_tokens")
    parts = []
    for number, (service, model) in enumerate(cells.labels):
        rows = np.flatnonzero(answered & (cells.cell == number))
        if len(rows):
            rng = generator(settings["seed"], "characterise", "lengths", service, model)
            parts.append(length_tables(f"trace {service} {model}", request[rows], response[rows], settings, rng))
    names = ("length_counts", "length_fits", "length_tests", "response_by_request", "response_bins")
    return {
        name: pa.concat_tables([part[name] for part in parts]) if parts else contracts.CONTRACTS[name].empty()
        for name in names
    }


def measure_lengths(trace: Path, settings: dict[str, Any], outputs: dict[str, Path]) -> None:
    """Write the five tables.

    Args:
        trace: trace.parquet.
        settings: as `trace_lengths`.
        outputs: path of each table, by contract name.

    Raises:
        UserError: the trace breaks its contract, or a setting is impossible.
    """
    cells = read_cells(trace, "failed", "request_tokens", "response_tokens")
    for name, table in trace_lengths(cells, settings).items():
        contracts.CONTRACTS[name].write(table, outputs[name])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add_settings(parser)
    parser.add_argument("--trace", type=Path, required=True, help="trace.parquet")
    for name in ("length-counts", "length-fits", "length-tests", "response-by-request", "response-bins"):
        parser.add_argument(f"--{name}", type=Path, required=True, help="table to write")


def run(args: argparse.Namespace) -> None:
    """Run the verb."""
    measure_lengths(
        args.trace,
        args.settings,
        {
            "length_counts": args.length_counts,
            "length_fits": args.length_fits,
            "length_tests": args.length_tests,
            "response_by_request": args.response_by_request,
            "response_bins": args.response_bins,
        },
    )
