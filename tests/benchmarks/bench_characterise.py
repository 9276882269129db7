"""Time the whole characterisation of a trace, verb by verb, each in its own process as the workflow runs them.

    python tests/benchmarks/bench_characterise.py [--rows 1429737] [--times 1] [--bootstrap 0] [--csv] [--at-once 2]

Prints for each verb wall time, CPU time (user and system) and peak memory, and of all together the wall time, the sum
of the CPU times and the largest peak. `--at-once` verbs run beside each other, as the workflow runs them.

The goal without the bootstrap, on two cores: 1.43 M rows (a twin) characterised in less than 8 s; with
`--rows 1471429 --times 7 --csv`, 10.3 M rows (a twin, repeated seven times, each time later) read from CSV and
characterised in less than 60 s and 4 GB. On a busy machine look at the CPU time.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import yaml
from bench_trace_read import DAYS, START
from burstbench.layout import CHARACTERISE

STUDY = Path(__file__).parents[2] / "config/study.yaml"


class Cost(NamedTuple):
    """What a process took [s, s, GB]."""

    wall_s: float
    cpu_s: float
    peak_gb: float


def measured(*words: str) -> Cost:
    """Run a verb; exit with its status where it fails."""
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "burstbench", *words])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(process.returncode)
    return Cost(time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_429_737, help="of the twin")
    parser.add_argument("--times", type=int, default=1, help="how often it is repeated")
    parser.add_argument("--bootstrap", type=int, default=0, help="windows of each cell with the goodness-of-fit test")
    parser.add_argument("--at-once", type=int, default=1, help="verbs beside each other")
    parser.add_argument("--csv", action="store_true", help="count the reading of the CSV file too")
    args = parser.parse_args()
    config = yaml.safe_load(STUDY.read_text())
    own = config["characterise"]
    calendar = {"start": START.isoformat(), "days": DAYS * args.times, "seed": config["seed"]}
    settings = {
        "bursts": own["bursts"],
        "gamma": own["gamma"] | {"workday_hours": own["workday_hours"], "bootstrap_windows": args.bootstrap},
        "lengths": own["lengths"],
    }
    costs: dict[str, Cost] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        raw, trace = folder / "raw.csv", folder / "trace.parquet"
        # In another process: the peak of a child would else be at least that of this one.
        program = f"from pathlib import Path; from bench_trace_read import write_raw; write_raw(Path({str(raw)!r}), "
        subprocess.run(
            [sys.executable, "-c", f"{program}{args.rows}, {args.times})"], cwd=Path(__file__).parent, check=True
        )
        print(f"{args.rows * args.times} rows, {raw.stat().st_size / 1e6:.0f} MB, load {os.getloadavg()[0]:.1f}")
        files = ["--csv", str(raw), "--out", str(trace), "--window", str(folder / "window.csv")]
        reading = measured("trace", "read", "--settings", json.dumps(calendar), *files)
        if args.csv:
            costs["trace read"] = reading
        began = time.perf_counter()

        def characterise(verb: str) -> Cost:
            outputs = [
                word
                for table in CHARACTERISE[verb]
                for word in (f"--{table.replace('_', '-')}", str(folder / f"{table}.parquet"))
            ]
            words = ["--settings", json.dumps(calendar | settings.get(verb, {})), "--trace", str(trace)]
            return measured("characterise", verb, *words, *outputs)

        # The longest first, as far as the order decides.
        verbs = sorted(CHARACTERISE, key=lambda verb: verb != "gamma")
        with ThreadPoolExecutor(args.at_once) as pool:
            costs |= dict(zip(verbs, pool.map(characterise, verbs), strict=True))
        wall = time.perf_counter() - began + (reading.wall_s if args.csv else 0)
    for name, cost in costs.items():
        print(f"{name:12s} {cost.wall_s:7.2f} s   CPU {cost.cpu_s:7.2f} s   peak {cost.peak_gb:5.2f} GB")
    _, cpu, peak = zip(*costs.values(), strict=True)
    print(f"{'together':12s} {wall:7.2f} s   CPU {sum(cpu):7.2f} s   peak {max(peak):5.2f} GB")


if __name__ == "__main__":
    main()
