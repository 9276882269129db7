"""How long a dry run of the paper's study takes with so many cells, on a cluster's profile, beside one with one seed.

    python tests/benchmarks/bench_dry_run.py [CELLS]

Run it in a clone without results, so that every cell is planned.
"""

import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from burstbench.config import ROOT, cells, load

OVERLAY = ROOT / "config/studies/paper.yaml"
COMMAND = ["snakemake", "--dry-run", "--quiet", "rules", "host", "reason", "progress", "--profile", "slurm_both"]


def plan(seeds: int, folder: Path) -> tuple[float, float, float]:
    """Return seconds of processor, seconds on the wall and the peak of memory so far (MB) of one dry run."""
    study = folder / "study.yaml"
    study.write_text(f"study: bench_dry_run\nseeds: {list(range(1, seeds + 1))}\n")
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", *COMMAND, "--configfile", str(OVERLAY), str(study)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": "workflow"},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return processor, wall, after.ru_maxrss / 1000


def main(wanted: int = 2000) -> None:
    """Print one line for the study with one seed and one for the large study."""
    config = load([ROOT / "config/study.yaml", OVERLAY])
    a_seed = len(cells(config | {"seeds": [1]}))
    with tempfile.TemporaryDirectory() as folder:
        for seeds in (1, math.ceil(wanted / a_seed)):
            processor, wall, memory = plan(seeds, Path(folder))
            print(
                f"{seeds * a_seed:6} cells: {processor:6.1f} s of processor, {wall:6.1f} s, {memory:5.0f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
