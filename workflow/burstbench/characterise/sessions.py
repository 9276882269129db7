"""`burstbench characterise sessions`: turns, think time and speed, where the trace has sessions and elapsed times.

BurstGPT has them from release 2.0 on. A trace without them gives tables without rows.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from burstbench.characterise.cells import Calendar, Cells, read_cells
from burstbench.characterise.loads import MINUTE_S, load_bins, loads
from burstbench.cli import add_settings
from burstbench.contracts import SESSIONS, SPEED_LOADS

SHARES = {"p05": 0.05, "q1": 0.25, "median": 0.5, "q3": 0.75, "p95": 0.95}


def quantities(cells: Cells, rows: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield name, unit and values of each quantity of one cell that the trace has.

    - `turns`: requests of a session.
    - `session_s`: time from the first to the last request of a session of at least two turns.
    - `gap_s`: time from a request to the next of its session.
    - `think_s`: the same from the answer on (request time plus elapsed time); below 0 where the next request did not
      wait for the answer.
    - `elapsed_s`: time from request to answer.
    - `tokens_per_s`: response tokens over elapsed time, of answered requests with an elapsed time above 0.

    Args:
        cells: a trace with response_tokens, session_id and elapsed_s.
        rows: requests of the cell, in the order of time, shape (n,).
    """
    time_s = cells.time_s[rows]
    elapsed = _elapsed(cells, rows)
    session = cells.table.column("session_id").combine_chunks().take(pa.array(rows))
    known = np.flatnonzero(session.is_valid().to_numpy(zero_copy_only=False))
    if len(known):
        code = session.take(pa.array(known)).dictionary_encode().indices.to_numpy()
        order = known[np.argsort(code, kind="stable")]
        code, start = np.sort(code), time_s[order]
        turns = np.bincount(code)
        yield "turns", "requests", turns
        last = np.cumsum(turns) - 1
        yield "session_s", "s", (start[last] - start[last - turns + 1])[turns > 1]
        same = np.flatnonzero(code[1:] == code[:-1])
        yield "gap_s", "s", start[same + 1] - start[same]
        answered = start[same] + elapsed[order[same]]
        yield "think_s", "s", (start[same + 1] - answered)[np.isfinite(answered)]
    yield "elapsed_s", "s", elapsed[np.isfinite(elapsed)]
    speed = _speed(cells, rows, elapsed)
    yield "tokens_per_s", "1/s", speed[np.isfinite(speed)]


def _elapsed(cells: Cells, rows: np.ndarray) -> np.ndarray:
    """Elapsed time of each request, nan where there is none, shape (n,)."""
    return cells.table.column("elapsed_s").combine_chunks().take(pa.array(rows)).to_numpy(zero_copy_only=False)


def _speed(cells: Cells, rows: np.ndarray, elapsed: np.ndarray) -> np.ndarray:
    """Response tokens a second of each request, nan where it failed or has no elapsed time, shape (n,)."""
    tokens = cells.column("response_tokens")[rows]
    speed = np.full(len(rows), np.nan)
    np.divide(tokens, elapsed, out=speed, where=(tokens > 0) & (elapsed > 0))
    return speed


def session_rows(cells: Cells) -> Iterator[dict[str, Any]]:
    """Rows of sessions: every cell and quantity of which the trace has a value.

    The requests of a session count by cell: one that uses two models is a session of each.
    """
    for number, (service, model) in enumerate(cells.labels):
        for quantity, unit, values in quantities(cells, np.flatnonzero(cells.cell == number)):
            if len(values):
                found = np.quantile(values, list(SHARES.values()))
                yield {
                    "service": service,
                    "model": model,
                    "quantity": quantity,
                    "unit": unit,
                    "n": len(values),
                    "mean": float(values.mean()),
                    **{name: float(value) for name, value in zip(SHARES, found, strict=True)},
                }


def speed_rows(cells: Cells) -> Iterator[dict[str, Any]]:
    """Rows of speed_loads: every cell with elapsed times, by the load of the request's minute."""
    all_minutes = (cells.time_s // MINUTE_S).astype(np.int64)
    for number, (service, model) in enumerate(cells.labels):
        rows = np.flatnonzero(cells.cell == number)
        elapsed = _elapsed(cells, rows)
        speed = _speed(cells, rows, elapsed)
        fine = np.flatnonzero(np.isfinite(speed))
        for load_of, others in (("own", all_minutes[rows]), ("all", all_minutes)):
            minute = all_minutes[rows[fine]]
            for part, found in enumerate(load_bins(minute, loads(minute, others)), 1):
                quartiles = np.quantile(speed[fine[found.rows]], (0.25, 0.5, 0.75))
                yield {
                    "service": service,
                    "model": model,
                    "load_of": load_of,
                    "part": part,
                    "load_low": found.low,
                    "load_high": found.high,
                    "requests": len(found.rows),
                    "tokens_per_s_q1": float(quartiles[0]),
                    "tokens_per_s": float(quartiles[1]),
                    "tokens_per_s_q3": float(quartiles[2]),
                    "elapsed_s": float(np.median(elapsed[fine[found.rows]])),
                }


def measure_sessions(trace: Path, settings: dict[str, Any], sessions: Path, speed_loads: Path) -> None:
    """Write both tables; without rows where the trace has neither sessions nor elapsed times.

    Args:
        trace: trace.parquet.
        settings: `start` (ISO date of day 1), `days`.
        sessions: sessions.parquet.
        speed_loads: speed_loads.parquet.

    Raises:
        UserError: the trace breaks its contract or leaves the calendar.
    """
    calendar = Calendar.of(settings["start"], settings["days"])
    cells = read_cells(trace, "response_tokens", "session_id", "elapsed_s", calendar=calendar)
    bare = all(cells.table.column(name).null_count == cells.table.num_rows for name in ("session_id", "elapsed_s"))
    found = ([], []) if bare else (list(session_rows(cells)), list(speed_rows(cells)))
    for contract, rows, path in zip((SESSIONS, SPEED_LOADS), found, (sessions, speed_loads), strict=True):
        contract.write(pa.Table.from_pylist(rows, schema=contract.schema), path)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add_settings(parser)
    parser.add_argument("--trace", type=Path, required=True, help="trace.parquet")
    for name in ("sessions", "speed-loads"):
        parser.add_argument(f"--{name}", type=Path, required=True, help="table to write")


def run(args: argparse.Namespace) -> None:
    """Run the verb."""
    measure_sessions(args.trace, args.settings, args.sessions, args.speed_loads)
