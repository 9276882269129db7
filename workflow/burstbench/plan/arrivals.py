"""When requests are sent: gaps from Gamma(shape alpha, scale beta), drawn once and never touched again.

Gaps are rounded to whole nanoseconds and added up as integers: a long plan drifts by nothing, and the last bits of a
processor's own mathematics do not reach the file.
"""

import numpy as np
from numpy.typing import NDArray

from burstbench.plan.checks import PlanError

Whole = NDArray[np.int64]
Real = NDArray[np.float64]

NS = 1_000_000_000
# Far above any study; it turns a slip (a scale of 1e-9 s) into a message instead of a full memory.
MOST_REQUESTS = 20_000_000
_LONGEST_NS = 2**62


def by_request(alpha: Real, scale: Real, rng: np.random.Generator) -> Whole:
    """Draw one gap for each request, each with its own parameters.

    Args:
        alpha: Gamma shape of each gap, shape (n,).
        scale: Gamma scale of each gap [s], shape (n,).
        rng: generator of the gaps.

    Returns:
        Arrival times from the start of the phase [ns], shape (n,), never decreasing.

    Raises:
        PlanError: the times do not fit into 64 bits (146 years).
    """
    gaps = rng.standard_gamma(alpha)
    gaps *= scale
    if gaps.sum() * NS >= _LONGEST_NS:
        raise PlanError(f"gaps add up to {gaps.sum():.3g} s: alpha or beta is far too large")
    return np.cumsum(_nanoseconds(gaps))


def by_time(edges_ns: Whole, alpha: Real, scale: Real, rng: np.random.Generator) -> tuple[Whole, Whole]:
    """Draw gaps until the phase ends; a gap has the parameters that hold when it begins.

    A gap that crosses into the next stretch, or over several, stays as it was drawn. The gap that crosses the end of
    the phase is cut: the next phase starts its own first gap there. In a stretch of rate 0 (an infinite scale) no gap
    begins; the next one begins at its end.

    Args:
        edges_ns: edges of the stretches over which parameters hold [ns], from the start of the phase, shape (n + 1,).
        alpha: Gamma shape in each stretch, shape (n,).
        scale: Gamma scale in each stretch [s], infinite where no request is to be sent, shape (n,).
        rng: generator of the gaps.

    Returns:
        Arrival times from the start of the phase [ns], and for each the stretch in which its gap began; shape (m,).

    Raises:
        PlanError: more than `MOST_REQUESTS` requests fall into the phase.
    """
    end = int(edges_ns[-1])
    now, stretch, total = int(edges_ns[0]), 0, 0
    arrivals: list[Whole] = []
    origins: list[Whole] = []
    while now < end:
        while edges_ns[stretch + 1] <= now:
            stretch += 1
        border = int(edges_ns[stretch + 1])
        if np.isinf(scale[stretch]):
            now = border
            continue
        # Enough gaps to cross the border nearly always (mean and four standard deviations); else another block.
        expected = (border - now) / NS / (alpha[stretch] * scale[stretch])
        block = int(min(expected + 4.0 * np.sqrt(expected / alpha[stretch]) + 4.0, MOST_REQUESTS))
        gaps = rng.standard_gamma(alpha[stretch], block) * scale[stretch]
        # A gap beyond the end is cut anyway; cutting it before the sum keeps it within 64 bits.
        times = now + np.cumsum(_nanoseconds(np.minimum(gaps, (end - now) / NS + 1.0)))
        crossing = int(np.searchsorted(times, border))  # the first arrival beyond the border, its gap began within
        times = times[: crossing + 1]
        now = int(times[-1])
        times = times[: np.searchsorted(times, end)]
        total += times.size
        if total > MOST_REQUESTS:
            raise PlanError(f"more than {MOST_REQUESTS:,} requests in one phase: alpha or beta is far too small")
        arrivals.append(times)
        origins.append(np.full(times.size, stretch))
    if not arrivals:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return np.concatenate(arrivals), np.concatenate(origins)


def _nanoseconds(seconds: Real) -> Whole:
    return np.rint(seconds * NS).astype(np.int64)
