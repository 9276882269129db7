import numpy as np
import pytest
from burstbench.stats.newton import maximise


class Hills:
    """-cosh((x - a) / w) - (y - b - x)²: concave, with its top at (a, a + b)."""

    def __init__(self, a, b, w):
        self.a, self.b, self.w = a, b, w

    def take(self, rows):
        return Hills(self.a[rows], self.b[rows], self.w[rows])

    def evaluate(self, parameters):
        x, y = parameters.T
        u, v = (x - self.a) / self.w, y - self.b - x
        gradient = np.stack((-np.sinh(u) / self.w + 2 * v, -2 * v), axis=1)
        second = np.stack((-np.cosh(u) / self.w**2 - 2, 2 + 0 * x, -2 + 0 * x), axis=1)
        return -np.cosh(u) - v * v, gradient, second


@pytest.fixture
def hills():
    rng = np.random.default_rng(1)
    return Hills(rng.normal(0, 2, 300), rng.normal(0, 2, 300), rng.uniform(0.05, 2, 300))


def test_every_top_is_found(hills):
    found = maximise(hills, np.zeros((300, 2)), (-20, -20), (20, 20))
    assert found.converged.all()
    assert found.parameters == pytest.approx(np.stack((hills.a, hills.a + hills.b), axis=1), abs=1e-9)
    assert found.value == pytest.approx(-np.ones(300))
    assert found.second[:, 0] == pytest.approx(-1 / hills.w**2 - 2, rel=1e-6)


def test_a_top_beyond_a_limit_ends_on_it_unconverged():
    hill = Hills(np.array([3.0]), np.array([0.0]), np.array([1.0]))
    found = maximise(hill, np.zeros((1, 2)), (-5, -5), (2, 9))
    assert not found.converged[0]
    # On the limit the other parameter is at its best.
    assert found.parameters[0] == pytest.approx([2, 2], abs=1e-6)


def test_a_fixed_parameter_stays(hills):
    found = maximise(hills, np.full((300, 2), 0.5), (0.5, -20), (0.5, 20), fixed=(True, False))
    assert found.converged.all()
    assert (found.parameters[:, 0] == 0.5).all()
    assert found.parameters[:, 1] == pytest.approx(0.5 + hills.b)


def test_too_few_evaluations_are_not_called_an_optimum(hills):
    assert not maximise(hills, np.full((300, 2), 9.0), (-20, -20), (20, 20), iterations=2).converged.all()


def test_a_start_without_a_value_does_not_converge():
    found = maximise(Hills(*(np.array([v]) for v in (0.0, 0.0, 1.0))), np.array([[1e6, 0]]), (-1e9, -9), (1e9, 9))
    assert not found.converged[0]
