"""What recorder and timeout cost: output tokens per second of a real vLLM with both, against one without.

    python tests/benchmarks/bench_vllm_overhead.py [rounds]

Needs .venv-vllm. Each round serves the same burst on both, in turns; the first of the two changes from round to round.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "vllm"))

from burstbench.serve import vllm
from vllm_cells import Cell

REQUESTS, PROMPT, RESPONSE = 1200, 64, 32


def tokens_per_second(folder: Path, recorded: bool) -> float:
    """Serve one burst."""
    # No request may time out: what it computed until then would not count.
    options = {"max_num_seqs": 64, "timeout": {"kind": "total", "seconds": 600}, "lag_limit_s": None}
    cell = Cell(folder, np.full(REQUESTS, PROMPT), np.zeros(REQUESTS), RESPONSE, vllm=options)
    names = ("plan.parquet", "plan.json", "pool.arrow", "requests.parquet", "steps.parquet", "run.json", "server.log")
    record = vllm.serve(cell.settings, *(folder / name for name in names), recorded=recorded)
    if recorded:
        tokens, wall_s = record["server_counters"]["generation_tokens_total"], record["client"]["wall_s"]
    else:
        records = record["records"]
        tokens, wall_s = records.response_tokens.sum(), records.wall_s
    return float(tokens / wall_s)


def main(rounds: int) -> None:
    """Print each round, and the ratio of the means."""
    found: dict[bool, list[float]] = {True: [], False: []}
    for number in range(rounds):
        for recorded in (True, False) if number % 2 else (False, True):
            with tempfile.TemporaryDirectory() as folder:
                found[recorded].append(tokens_per_second(Path(folder), recorded))
        print(f"round {number}: {found[True][-1]:.0f} with, {found[False][-1]:.0f} without, tokens/s", flush=True)
    ratios = np.array(found[True]) / np.array(found[False])
    print(
        f"ratio of the means {np.mean(found[True]) / np.mean(found[False]):.3f}, paired median {np.median(ratios):.3f}"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4)
