"""The load under which a request is served: how many requests came in its minute."""

from typing import NamedTuple

import numpy as np

MINUTE_S = 60
# Equal parts of the requests, by load.
PARTS = 5


class LoadBin(NamedTuple):
    """Requests under a similar load.

    Attributes:
        low: smallest load in it [requests in the minute].
        high: largest load in it.
        minutes: distinct minutes.
        rows: places of its requests, shape (k,).
    """

    low: int
    high: int
    minutes: int
    rows: np.ndarray


def loads(minute: np.ndarray, all_minutes: np.ndarray) -> np.ndarray:
    """Requests that came in the minute of each request.

    Args:
        minute: number of each request's minute, shape (n,).
        all_minutes: minutes of the requests that make the load, shape (m,).
    """
    counts = np.bincount(all_minutes, minlength=int(minute.max(initial=-1)) + 1)
    return counts[minute]


def load_bins(minute: np.ndarray, load: np.ndarray) -> list[LoadBin]:
    """Part requests into fifths by load; requests of one load stay together, so there may be fewer, unequal parts.

    Args:
        minute: number of each request's minute, shape (n,).
        load: of each request, whole numbers, shape (n,).
    """
    if not len(load):
        return []
    upto = np.cumsum(np.bincount(load))
    # Of each distinct load the part in which its middle request falls.
    distinct = np.flatnonzero(np.diff(upto, prepend=0))
    middle = (upto[distinct] + np.concatenate(([0], upto[distinct][:-1]))) / 2
    part = np.minimum((middle * PARTS / len(load)).astype(np.int64), PARTS - 1)
    part_of = np.zeros(len(upto), dtype=np.int64)
    part_of[distinct] = part
    of_request = part_of[load]
    bins = []
    for number in np.unique(part):
        rows = np.flatnonzero(of_request == number)
        own = distinct[part == number]
        bins.append(LoadBin(int(own[0]), int(own[-1]), int(np.count_nonzero(np.bincount(minute[rows]))), rows))
    return bins
