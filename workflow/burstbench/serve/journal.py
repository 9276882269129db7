"""The engine's records as they are written while it runs: two files of fixed-size rows that only ever grow.

The engine's process writes them (`burstbench.serve.recorder`), with nothing but NumPy; the job reads them when the
server has stopped. Whatever kills the server costs at most one flush, and a row cut in half is left out. All times are
`time.monotonic_ns()`, a clock that the processes of one host share.
"""

import os
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

EVENTS, STEPS, ENGINE = "events.bin", "steps.bin", "engine.json"

# What happens to a request. `a`, `b`, `c` mean: ADDED prompt tokens, max_tokens, 0; ENDED index into ENDINGS, response
# tokens, preemptions.
ADDED, SCHEDULED, FIRST_TOKEN, ENDED = range(4)
ENDINGS = ("stopped", "length", "aborted", "error", "queue_timeout")
OTHER = -1  # the request number of a request that is not of the run (the one that wakes the server)

EVENT = np.dtype([(name, "<i8") for name in ("kind", "request", "time_ns", "a", "b", "c")])
# `free` counts KV-cache blocks after scheduling; `gpu_memory` is -1 where there is no GPU.
STEP = np.dtype(
    [
        (name, "<i8")
        for name in (
            "start_ns",
            "end_ns",
            "prefill",
            "decode",
            "running",
            "waiting",
            "preempted",
            "free",
            "gpu_memory",
        )
    ]
)

FLUSH_S = 0.5
FLUSH_ROWS = 512


class Writer:
    """Appends rows to one file, some at a time.

    Args:
        path: the file; it may exist.
        dtype: of a row; all columns are int64.
    """

    def __init__(self, path: Path, dtype: np.dtype) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._columns = len(dtype.names or ())
        self._rows: list[tuple[int, ...]] = []
        self._flushed = time.monotonic()

    def add(self, *row: int) -> None:
        """Keep a row; write when there are many, or when the last writing is a while ago."""
        self._rows.append(row)
        if len(self._rows) >= FLUSH_ROWS or time.monotonic() - self._flushed > FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Write what is kept.

        Raises:
            OSError: the disk is full, for example. The engine must not go on unrecorded.
        """
        rows, self._rows = self._rows, []
        self._flushed = time.monotonic()
        if rows:
            left = memoryview(np.array(rows, np.dtype("<i8")).reshape(-1, self._columns).tobytes())
            while left:
                left = left[os.write(self._file, left) :]


def read(path: Path, dtype: np.dtype) -> NDArray:
    """Return the whole rows of a file, shape (rows,); none where there is no file."""
    if not path.exists():
        return np.empty(0, dtype)
    data = path.read_bytes()
    return np.frombuffer(data[: len(data) // dtype.itemsize * dtype.itemsize], dtype)
