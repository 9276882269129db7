"""Time the trace reader against pandas' C reader, on a CSV file of the twin, in one run.

    python tests/benchmarks/bench_trace_read.py [--rows 1429737] [--times 1] [--repeats 5]

Prints the best of `--repeats` of each: ours from CSV to a validated Parquet file and to a table, pandas' from CSV to a
data frame (nothing checked). `--times 7` writes the file's rows seven times over, each time later (10 M rows).
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from burstbench.contracts import TRACE
from burstbench.trace.adapters import BURSTGPT_V1, BURSTGPT_V2
from burstbench.trace.published import read_published
from burstbench.trace.read import read_traces
from burstbench.trace.twin import make_twin
from pyarrow import csv

PUBLISHED = Path(__file__).parents[2] / "data" / "published"
START = date(2023, 11, 1)
DAYS = 61


def write_raw(path: Path, rows: int, times: int) -> None:
    """Write a twin as BurstGPT v1, its rows `times` times over."""
    twin = make_twin(read_published(PUBLISHED), rows, DAYS, START, 1)
    service = pc.if_else(pc.equal(twin["service"], "api"), "API log", "Conversation log")
    columns = {
        "Timestamp": twin["time_s"].cast(pa.int64()),
        "Model": twin["model"],
        "Request tokens": twin["request_tokens"],
        "Response tokens": twin["response_tokens"],
        "Total tokens": pc.add(twin["request_tokens"], twin["response_tokens"]),
        "Log Type": service,
    }
    schema = pa.table(columns).schema
    with csv.CSVWriter(path, schema, write_options=csv.WriteOptions(quoting_style="none")) as writer:
        for i in range(times):
            later = pc.add(columns["Timestamp"], i * DAYS * 86400)
            writer.write_table(pa.table({**columns, "Timestamp": later}))
    text = path.read_bytes()
    head, rest = text.split(b"\n", 1)
    path.write_bytes(head.replace(b'"', b"") + b"\n" + rest)


def best(action: Callable[[], object], repeats: int) -> float:
    """Return the shortest of several times, in seconds."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        action()
        times.append(time.perf_counter() - begin)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_429_737)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-pandas", action="store_true", help="only ours: the peak of memory is then ours")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        raw, out = Path(folder, "raw.csv"), Path(folder, "trace.parquet")
        write_raw(raw, args.rows, args.times)
        print(f"{args.rows * args.times} rows, {raw.stat().st_size / 1e6:.1f} MB")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        def read() -> pa.Table:
            return read_traces([raw], (BURSTGPT_V1, BURSTGPT_V2), START, DAYS * args.times)

        table_s = best(read, args.repeats)
        parquet_s = best(lambda: TRACE.write(read(), out), args.repeats)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"ours, to a checked table:     {table_s:.3f} s")
        print(f"ours, to validated Parquet:   {parquet_s:.3f} s")
        print(f"peak memory:                  {peak / 1e3:.0f} MB ({before / 1e3:.0f} MB before, for making the file)")
        if not args.no_pandas:
            import pandas as pd

            pandas_s = best(lambda: pd.read_csv(raw, engine="c"), args.repeats)
            print(f"pandas' C reader, unchecked:  {pandas_s:.3f} s")
            print(f"ratio: {pandas_s / table_s:.1f} to a table, {pandas_s / parquet_s:.1f} to Parquet")


if __name__ == "__main__":
    main()
