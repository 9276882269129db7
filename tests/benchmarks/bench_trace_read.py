"""Time the trace reader against pandas' C reader, on a CSV file of the twin, in one run.

    python tests/benchmarks/bench_trace_read.py [--rows 1429737] [--times 1] [--repeats 5]

Prints the best of `--repeats` of each, time and CPU time: ours from CSV to a checked table and to a validated Parquet
file; pandas' from CSV to a data frame (nothing checked), and the plain way to do our job with it: read, check the same
things, write Parquet. On a busy machine compare the CPU times. `--times 7` writes the file's rows seven times over,
each time later (10 M rows).
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


def best(action: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the shortest of several times, and the least CPU time, in seconds."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter(), time.process_time()
        action()
        times.append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
    return min(wall for wall, _ in times), min(cpu for _, cpu in times)


def plain(raw: Path, out: Path) -> None:
    """Do the reader's job with pandas."""
    import pandas as pd

    frame = pd.read_csv(raw, engine="c")
    tokens = frame[["Request tokens", "Response tokens", "Total tokens"]]
    assert (tokens >= 0).all(axis=None)
    assert (frame["Request tokens"] + frame["Response tokens"] == frame["Total tokens"]).all()
    assert frame["Timestamp"].is_monotonic_increasing
    assert frame["Timestamp"].between(0, 1e9).all()
    assert frame["Model"].isin(["ChatGPT", "GPT-4"]).all()
    frame["service"] = frame["Log Type"].map({"Conversation log": "conversation", "API log": "api"})
    assert frame["service"].notna().all()
    frame["failed"] = frame["Response tokens"] == 0
    frame.drop(columns=["Log Type", "Total tokens"]).to_parquet(out, compression="zstd")


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

        rows = {
            "ours, to a checked table": best(read, args.repeats),
            "ours, to validated Parquet": best(lambda: TRACE.write(read(), out), args.repeats),
        }
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if not args.no_pandas:
            import pandas as pd

            rows["pandas' C reader, unchecked"] = best(lambda: pd.read_csv(raw, engine="c"), args.repeats)
            rows["pandas, checked, to Parquet"] = best(lambda: plain(raw, out), args.repeats)
        for name, (wall, cpu) in rows.items():
            print(f"{name:30s} {wall:6.3f} s   CPU {cpu:6.3f} s")
        print(f"peak memory {peak / 1e3:.0f} MB ({before / 1e3:.0f} MB before, for making the file)")
        if not args.no_pandas:
            for ours, theirs in zip(list(rows)[:2], list(rows)[2:], strict=True):
                print(
                    f"ratio: {theirs} / {ours}: {rows[theirs][0] / rows[ours][0]:.2f}, "
                    f"CPU {rows[theirs][1] / rows[ours][1]:.2f}"
                )


if __name__ == "__main__":
    main()
