"""What a study cost and where its results are: `python -m burstbench.timings results/default`."""

import csv
import sys
from pathlib import Path

from tabulate import tabulate

ROOMS = ("trace", "characterise", "prompts", "plan", "serve", "metrics", "figures", "tables", "paper")
SHOWN = ("paper.pdf", "report.html", "scorecard.md")


def read(folder: Path) -> list[tuple[str, int, float, float]]:
    """Return (room, jobs, seconds, largest memory in MB) from a study's benchmark files.

    A room's seconds are the sum over its jobs, which may have run side by side. Snakemake measures memory by sampling;
    a job that ends between two samples has none.
    """
    rows = []
    for room in ROOMS:
        jobs, seconds, memory = 0, 0.0, 0.0
        for path in sorted((folder / "benchmarks" / room).rglob("*.tsv")):
            with open(path, encoding="utf-8", newline="") as stream:
                for row in csv.DictReader(stream, delimiter="\t"):
                    jobs += 1
                    seconds += float(row["s"])
                    if row["max_rss"] not in {"-", "NA"}:
                        memory = max(memory, float(row["max_rss"]))
        rows.append((room, jobs, seconds, memory))
    return rows


def main() -> None:
    """Print the table of rooms and the paths of the results."""
    folder = Path(sys.argv[1])
    rows = read(folder)
    total = ("all", sum(row[1] for row in rows), sum(row[2] for row in rows), max(row[3] for row in rows))
    print("\nMade by the latest run of each job (seconds are summed over jobs that may run side by side):")
    print(tabulate([*rows, total], headers=["room", "jobs", "seconds", "largest job, MB"], floatfmt=".1f"))
    print("\nRead the results:")
    for name in SHOWN:
        print(f"  {folder / name}")


if __name__ == "__main__":
    main()
