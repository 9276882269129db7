"""Progress on stderr: a bar in a terminal, plain lines in a log, nothing for what is quick."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

PATIENCE_S = 2.0  # work that ends sooner stays silent in a log
EVERY_S = 5.0  # at most one plain line in this time


class Progress(Protocol):
    """What the work reports to."""

    def __call__(self, done: float) -> None:
        """Say that `done` of the total is reached (not how much was added)."""


@contextmanager
def progress(title: str, total: float | None, unit: str) -> Iterator[Progress]:
    """Show the progress of one long piece of work.

    Args:
        title: what is done, in a few words.
        total: how much there is to do, or None where that is not known.
        unit: "B" for bytes, shown as MB; or what is counted.

    Yields:
        A function to be called with how much is done.
    """
    if sys.stderr.isatty():
        with _bar(title, total, unit) as update:
            yield update
    else:
        yield _Lines(title, total, unit)


class _Lines:
    """Plain lines: `title: 40 % (50.2 of 125.5 MB)`, at most every EVERY_S seconds."""

    def __init__(self, title: str, total: float | None, unit: str) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.next_s = time.monotonic() + PATIENCE_S

    def __call__(self, done: float) -> None:
        now = time.monotonic()
        if now < self.next_s:
            return
        self.next_s = now + EVERY_S
        amount = f"{done / 1e6:.1f}" if self.unit == "B" else f"{done:,.0f}"
        unit = "MB" if self.unit == "B" else self.unit
        if self.total:
            whole = f"{self.total / 1e6:.1f}" if self.unit == "B" else f"{self.total:,.0f}"
            print(f"{self.title}: {100 * done / self.total:.0f} % ({amount} of {whole} {unit})", file=sys.stderr)
        else:
            print(f"{self.title}: {amount} {unit}", file=sys.stderr)
        sys.stderr.flush()


@contextmanager
def _bar(title: str, total: float | None, unit: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as RichProgress

    counts: list[ProgressColumn]
    counts = [DownloadColumn(), TransferSpeedColumn()] if unit == "B" else [MofNCompleteColumn(), TextColumn(unit)]
    columns = [TextColumn("{task.description}"), BarColumn(), *counts, TimeRemainingColumn()]
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.update(task, completed=done)
