"""Newton's method for thousands of small likelihoods of two parameters at once."""

from typing import NamedTuple, Protocol

import numpy as np

# A step below this ends the search. Newton's error is quadratic in the last step, so the optimum is then exact to
# about 1e-14 in each parameter.
TOLERANCE = 1e-7
# A step in the logarithm of a parameter is never longer than this.
STEP_MAX = 1.5


class Problem(Protocol):
    """Many functions of two parameters, one a row."""

    def evaluate(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Value (rows,), gradient (rows, 2) and second derivatives 11, 12, 22 (rows, 3) at `parameters` (rows, 2)."""
        ...

    def take(self, rows: np.ndarray) -> "Problem":
        """The same functions, only those rows (whole numbers, rising)."""
        ...


class Optimum(NamedTuple):
    """The maxima found, one a row.

    Attributes:
        parameters: shape (rows, 2).
        value: function there, shape (rows,).
        second: its second derivatives 11, 12, 22 there, shape (rows, 3).
        converged: whether each row is at an inner maximum, shape (rows,).
    """

    parameters: np.ndarray
    value: np.ndarray
    second: np.ndarray
    converged: np.ndarray


def _newton_step(gradient: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Newton's step; where the function is not concave, its curvature is bent until it is."""
    h11, h12, h22 = -second.T
    middle = (h11 + h22) / 2
    radius = np.hypot((h11 - h22) / 2, h12)
    large = np.maximum(np.abs(middle) + radius, 1e-300)
    shift = np.where(middle - radius < 1e-9 * large, radius - middle + 0.1 * large, 0.0)
    h11, h22 = h11 + shift, h22 + shift
    determinant = h11 * h22 - h12 * h12
    g1, g2 = gradient.T
    step = np.stack(((h22 * g1 - h12 * g2) / determinant, (h11 * g2 - h12 * g1) / determinant), axis=1)
    longest = np.abs(step).max(axis=1, initial=0)
    return step * np.minimum(1, STEP_MAX / np.maximum(longest, 1e-300))[:, None]


def maximise(
    problem: Problem,
    start: np.ndarray,
    lower: tuple[float, float],
    upper: tuple[float, float],
    fixed: tuple[bool, bool] = (False, False),
    tolerance: float = TOLERANCE,
    iterations: int = 100,
) -> Optimum:
    """Maximise every row's function.

    A step that lowers a row's value is shortened by four until it does not. Rows that have ended leave the
    computation. A row that ends on a limit, or does not end, is not converged; its last parameters and value are given
    nevertheless.

    Args:
        problem: the functions.
        start: shape (rows, 2), where each is finite.
        lower: least value of each parameter.
        upper: largest value of each parameter.
        fixed: parameters that keep their start value.
        tolerance: a shorter step is the last.
        iterations: evaluations allowed.
    """
    rows = len(start)
    parameters = np.clip(start, lower, upper)
    free = ~np.asarray(fixed)

    def evaluate(problem: Problem, at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        with np.errstate(all="ignore"):
            value, gradient, second = problem.evaluate(at)
        if not free.all():
            gradient = gradient * free
            second = np.where([free[0], free.all(), free[1]], second, [-1.0, 0.0, -1.0])
        bad = ~(np.isfinite(value) & np.isfinite(gradient).all(axis=1) & np.isfinite(second).all(axis=1))
        value[bad] = -np.inf
        gradient[bad] = 0
        second[bad] = (-1, 0, -1)
        return value, gradient, second

    value, gradient, second = evaluate(problem, parameters)
    converged = np.zeros(rows, dtype=bool)
    live = np.flatnonzero(np.isfinite(value))  # rows still searching, as numbers of the whole
    shown = np.arange(rows)  # rows that `problem` holds, as numbers of the whole
    step = np.zeros((rows, 2))
    step[live] = _newton_step(gradient[live], second[live])
    at_limit = np.zeros(rows, dtype=np.int64)
    for _ in range(iterations):
        if not len(live):
            break
        if len(live) < 0.8 * len(shown):
            problem = problem.take(np.searchsorted(shown, live))
            shown = live
        trial = np.clip(parameters[shown] + step[shown], lower, upper)
        new_value, new_gradient, new_second = evaluate(problem, trial)
        place = np.searchsorted(shown, live)
        better = new_value[place] >= value[live] - 1e-12 * (1 + np.abs(value[live]))
        won, source = live[better], place[better]
        moved = trial[source] - parameters[won]
        parameters[won], value[won] = trial[source], new_value[source]
        gradient[won], second[won] = new_gradient[source], new_second[source]
        clipped = np.abs(moved - step[won]).max(axis=1, initial=0) > 1e-12
        step[won] = _newton_step(gradient[won], second[won])
        step[live[~better]] *= 0.25
        at_limit[won] = np.where(clipped, at_limit[won] + 1, 0)
        size = np.abs(step[live]).max(axis=1)
        # The last step is so short that it need not be evaluated.
        small = better & (size < tolerance) & (at_limit[live] == 0)
        done = live[small]
        parameters[done] = np.clip(parameters[done] + step[done], lower, upper)
        converged[done] = True
        # No shorter step rises any more: the end of the arithmetic, an optimum if the slope is as good as none.
        stuck = ~better & (size < 1e-12)
        converged[live[stuck]] = np.abs(_newton_step(gradient[live[stuck]], second[live[stuck]])).max(axis=1) < 1e-4
        live = live[~small & ~stuck & (at_limit[live] < 4)]
    concave = (second[:, 0] < 0) & (second[:, 0] * second[:, 2] > second[:, 1] ** 2)
    return Optimum(parameters, value, second, converged & concave)
