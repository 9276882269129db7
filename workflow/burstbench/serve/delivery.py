"""Proof of what was delivered: was the load that the server saw the load that was planned?"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from burstbench.errors import UserError
from burstbench.serve.client import ClientRecords

Int = NDArray[np.int64]


class DeliveryError(UserError):
    """A run is not what was planned; its records are written nevertheless."""


def ks_distance(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Largest distance of two samples' distribution functions (two-sample Kolmogorov-Smirnov); 0 for an empty one."""
    one, other = np.sort(one), np.sort(other)
    if not len(one) or not len(other):
        return 0.0
    both = np.concatenate([one, other])
    below = np.searchsorted(one, both, side="right") / len(one)
    return float(np.max(np.abs(below - np.searchsorted(other, both, side="right") / len(other))))
