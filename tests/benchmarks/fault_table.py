"""Every fault of a server against the load client, as a table; then its memory over many requests. Asserts nothing.

    python tests/benchmarks/fault_table.py --faults faults.csv --memory memory.csv

The server is the tests' own (tests/serve/serve_faulty_server.py): real sockets, requests of even number answered well,
those of odd number as the fault says. A row: requests planned, how many ended how, their sum, how often the server was
asked at most for one request, and the sockets and connections that were left open.
"""

import argparse
import csv
import os
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "serve"))
import compare_clients
from burstbench import contracts
from burstbench.serve.client import Options, Target, run_plan
from serve_faulty_server import serving
from serve_plans import plan, prompt
from test_serve_client import FAULTS

OPTIONS = Options(run_id="t", total_s=60.0, connect_s=20.0, lead_s=0.02)


def sockets() -> int:
    """Files and sockets that this process holds."""
    return len(os.listdir("/proc/self/fd"))


def faults(n: int, every_s: float) -> list[dict]:
    """Run every fault; return the rows."""
    rows = []
    table = plan(np.arange(n) * every_s)
    with serving() as server:

        def row(fault, records):
            end = time.monotonic() + 20
            while (server.open or sockets() > before) and time.monotonic() < end:
                time.sleep(0.01)
            counts = Counter(records.outcome)
            said = {name: counts[name] for name in contracts.OUTCOMES}
            asked = max(server.asked.values(), default=0)
            rows.append({"fault": fault, "requests": len(records.outcome), **said, "sum": sum(counts.values()),
                         "asked_at_most": asked, "sockets_left": sockets() - before,
                         "connections_left": server.open})  # fmt: skip
            print(rows[-1], flush=True)
            server.asked.clear()

        run_plan(plan([0.0]), prompt, Target(server.url(), "m"), OPTIONS)  # libuv keeps one pipe for good
        while server.open:
            time.sleep(0.01)
        server.asked.clear()
        before = sockets()
        for fault in [*FAULTS, "huge"]:
            options = replace(OPTIONS, total_s=1.0) if fault.startswith("hang") else OPTIONS
            few = table.slice(0, 20) if fault == "huge" else table
            row(fault, run_plan(few, prompt, Target(server.url(fault), "m"), options))
        row("refused", run_plan(table, prompt, Target("http://127.0.0.1:9/v1", "m"), OPTIONS))
        server.call(server.go_away_after(n // 4, 0.3))
        row("goes away for 0.3 s", run_plan(table, prompt, Target(server.url(), "m"), OPTIONS))
    return rows


def memory(requests: int, rate: float) -> list[dict]:
    """Resident memory while a long plan runs."""
    rows: list[dict] = []
    me = psutil.Process()

    def progress(state):
        ended = state.done + state.failed
        if not rows or ended >= rows[-1]["requests_ended"] + requests // 20 or ended == requests:
            rows.append({"requests_ended": ended, "resident_mb": round(me.memory_info().rss / 1e6, 1),
                         "sockets": sockets()})  # fmt: skip
            print(rows[-1], flush=True)

    table = plan(np.arange(requests) / rate)
    with compare_clients.server(1, 0.01, requests) as run:
        records = run_plan(table, prompt, Target(run.url, "m"), OPTIONS, progress=progress)
    print(Counter(records.outcome))
    return rows


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100, help="of each fault")
    parser.add_argument("--every-s", type=float, default=0.01)
    parser.add_argument("--many", type=int, default=100_000, help="requests of the memory's table")
    parser.add_argument("--rate", type=float, default=1000, help="of those, requests/s")
    parser.add_argument("--faults", type=Path, help="CSV to write")
    parser.add_argument("--memory", type=Path, help="CSV to write")
    args = parser.parse_args()
    for path, rows in ((args.faults, args.faults and faults(args.requests, args.every_s)),
                       (args.memory, args.memory and memory(args.many, args.rate))):  # fmt: skip
        if path:
            with open(path, "w", newline="") as stream:
                writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)


if __name__ == "__main__":
    main()
