"""Newton's method for thousands of small likelihoods of two parameters at once."""

from typing import NamedTuple, Protocol

import numpy as np

# A step below this ends the search. Newton's error is quadratic in the last step, so the optimum is then exact to
# about 1e-14 in each parameter.
TOLERANCE = 1e-7
# Evaluations after which a search is given up.
ITERATIONS = 100
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


def _newton_step(gradient: np.ndarray, second: np.ndarray, pinned: np.ndarray) -> np.ndarray:
    """Newton's step; where the function is not concave, its curvature is bent until it is.

    Args:
        gradient: shape (rows, 2).
        second: shape (rows, 3).
        pinned: parameters that must not move, shape (rows, 2).
    """
    g1, g2 = np.where(pinned, 0.0, gradient).T
    h11, h12, h22 = -second.T
    h11, h22 = np.where(pinned[:, 0], 1.0, h11), np.where(pinned[:, 1], 1.0, h22)
    h12 = np.where(pinned.any(axis=1), 0.0, h12)
    middle = (h11 + h22) / 2
    radius = np.hypot((h11 - h22) / 2, h12)
    large = np.maximum(np.abs(middle) + radius, 1e-100)
    shift = np.where(middle - radius < 1e-9 * large, radius - middle + 0.1 * large, 0.0)
    h11, h22 = h11 + shift, h22 + shift
    determinant = h11 * h22 - h12 * h12
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
    iterations: int = ITERATIONS,
) -> Optimum:
    """Maximise every row's function.

    A step that lowers a row's value is shortened by four until it does not. A parameter at a limit stays there while
    the function rises beyond it. Rows that have ended leave the computation. A row that ends at a limit, or does not
    end, is not converged; its last parameters and value are given nevertheless.

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

    def evaluate(problem: Problem, at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        with np.errstate(all="ignore"):
            value, gradient, second = problem.evaluate(at)
        bad = ~(np.isfinite(value) & np.isfinite(gradient).all(axis=1) & np.isfinite(second).all(axis=1))
        value[bad] = -np.inf
        gradient[bad] = 0
        second[bad] = (-1, 0, -1)
        return value, gradient, second

    def pinned(chosen: np.ndarray) -> np.ndarray:
        at, slope = parameters[chosen], gradient[chosen]
        return np.asarray(fixed) | ((at <= lower) & (slope < 0)) | ((at >= upper) & (slope > 0))

    value, gradient, second = evaluate(problem, parameters)
    ended = np.zeros(rows, dtype=bool)
    live = np.flatnonzero(np.isfinite(value))  # rows still searching, as numbers of the whole
    shown = np.arange(rows)  # rows that `problem` holds, as numbers of the whole
    step = np.zeros((rows, 2))
    step[live] = _newton_step(gradient[live], second[live], pinned(live))
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
        parameters[won], value[won] = trial[source], new_value[source]
        gradient[won], second[won] = new_gradient[source], new_second[source]
        step[won] = _newton_step(gradient[won], second[won], pinned(won))
        step[live[~better]] *= 0.25
        size = np.abs(step[live]).max(axis=1)
        # The last step is so short that it need not be evaluated.
        small = better & (size < tolerance)
        done = live[small]
        parameters[done] = np.clip(parameters[done] + step[done], lower, upper)
        ended[done] = True
        # No shorter step rises any more: the end of the arithmetic, an optimum if the slope is as good as none.
        stuck = ~better & (size < 1e-12)
        left = live[stuck]
        ended[left] = np.abs(_newton_step(gradient[left], second[left], pinned(left))).max(axis=1, initial=0) < 1e-4
        live = live[~small & ~stuck]
    free = ~np.asarray(fixed)
    inside = ((parameters > lower) & (parameters < upper) | fixed).all(axis=1)
    second = np.where([free[0], free.all(), free[1]], second, [-1.0, 0.0, -1.0])
    concave = (second[:, 0] < 0) & (second[:, 0] * second[:, 2] > second[:, 1] ** 2)
    return Optimum(parameters, value, second, ended & inside & concave)
