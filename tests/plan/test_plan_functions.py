"""Functions of a phase: values by hand, and every wrong one refused by its key."""

import math

import numpy as np
import pytest
from burstbench.plan import functions
from burstbench.plan.checks import PlanError


def at(position, axis="request", last=None):
    position = np.asarray(position, dtype=np.float64)
    last = position[-1] if last is None else last
    return functions.Points(position / last, position, axis)


def values(spec, points, initial=2.0, every=None):
    return functions.evaluate(spec, "phases[0].alpha", points, initial, every)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"kind": "constant", "value": 0.3}, [0.3, 0.3, 0.3, 0.3, 0.3]),
        ({"kind": "linear", "from": 1.0, "to": 0.5}, [2.0, 1.75, 1.5, 1.25, 1.0]),
        ({"kind": "quadratic", "extreme": 0.2}, [2.0, 0.8, 0.4, 0.8, 2.0]),
        ({"kind": "quadratic", "extreme": 3.0}, [2.0, 5.0, 6.0, 5.0, 2.0]),
        ({"kind": "steps", "factors": [1, 4, 2], "every": 2}, [2.0, 2.0, 8.0, 8.0, 4.0]),
        ({"kind": "expression", "text": "initial * (1 + i)"}, [2.0, 4.0, 6.0, 8.0, 10.0]),
        ({"kind": "expression", "text": "where(u < 0.5, 3, max(4, i + i))"}, [3.0, 3.0, 4.0, 6.0, 8.0]),
        ({"kind": "expression", "text": "3"}, [3.0, 3.0, 3.0, 3.0, 3.0]),
        ({"kind": "expression", "text": "-(-2) ** 3 + 7 // 2 + i % 2 + 0 * u"}, [11.0, 12.0, 11.0, 12.0, 11.0]),
    ],
)
def test_values_by_hand(spec, expected):
    functions.check(spec, "phases[0].alpha", "request", "alpha", 5, None)
    assert values(spec, at([0, 1, 2, 3, 4])) == pytest.approx(expected, rel=1e-11)


def test_expression_of_time_and_functions():
    points = at([0.0, 10.0, 20.0], "time")
    got = values(
        {"kind": "expression", "text": "exp(-t / 10) + sqrt(abs(-4)) + sin(pi / 2) + log(1) + floor(0.5)"}, points
    )
    assert got == pytest.approx([3 + math.exp(-k) for k in range(3)], rel=1e-11)


def test_cv_steps_is_the_example_clients_sweep():
    # CV 2 -> 64 -> 2 -> 32 -> 2 -> 16 ... over legs of 200 requests; alpha = 1 / CV^2; the initial value plays no part.
    spec = {"kind": "sweep", "reading": "cv_steps"}
    functions.check(spec, "a", "request", "alpha", 2001, None)
    cv = values(spec, at(np.arange(2001))) ** -0.5
    assert cv[[0, 100, 200, 300, 400, 500, 600]] == pytest.approx([2, 33, 64, 33, 2, 17, 32])
    assert cv[800::200] == pytest.approx([2, 16, 2, 8, 2, 4, 2])


def test_steps_of_decimal_seconds_begin_where_they_should():
    spec = {"kind": "steps", "factors": [1, 2, 3, 4], "every_s": 0.1}
    points = at(np.arange(4) * 0.1, "time")  # 3 * 0.1 = 0.30000000000000004, but 0.3 / 0.1 < 3
    functions.check(spec, "a", "time", "beta", 0.4, None)
    assert values(spec, points, 1.0).tolist() == [1, 2, 3, 4]
    assert functions.steps_of(0.1 * 3, 0.1) == 3
    assert functions.steps_of(1.05, 0.1) == 11


@pytest.mark.parametrize(
    ("header", "expected"), [("request,value", [5.0, 5.0, 7.0, 7.0]), ("request,factor", [10.0, 10.0, 14.0, 14.0])]
)
def test_table_holds_until_its_next_row(tmp_path, header, expected):
    path = tmp_path / "alpha.csv"
    path.write_text(f"{header}\n0,5\n2,7\n")
    assert values({"kind": "table", "csv": str(path)}, at([0, 1, 2, 3])).tolist() == expected


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "the header request,value"),
        ("time_s,value\n0,1\n", "the header request,value"),
        ("request,value\n", "at least one row"),
        ("request,value\n1,5\n", "request 0, the start of the phase, in line 2"),
        ("request,value\n0,5\n3,6\n3,7\n", "a request above 3 in line 4"),
        ("request,value\n0,5\n3\n", "two numbers in line 3"),
        ("request,value\n0,five\n", "two numbers in line 2"),
        ("request,factor\n0,0\n", "factor > 0 in line 2"),
        ("request,value\n0,nan\n", "value > 0 in line 2"),
    ],
)
def test_wrong_table_is_refused(tmp_path, content, named):
    path = tmp_path / "alpha.csv"
    path.write_text(content)
    with pytest.raises(PlanError, match=r"^phases\[0\]\.alpha\.csv: ") as caught:
        values({"kind": "table", "csv": str(path)}, at([0, 1]))
    assert named in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_table_is_refused(tmp_path):
    with pytest.raises(PlanError, match=r"phases\[0\]\.alpha\.csv: .*none\.csv: No such file"):
        values({"kind": "table", "csv": str(tmp_path / "none.csv")}, at([0, 1]))


WRONG = [
    (3, "alpha: found 3, expected a function"),
    ({}, "alpha.kind: missing"),
    ({"kind": "cubic"}, "alpha.kind: found 'cubic'"),
    ({"kind": "constant"}, "alpha.value: missing"),
    ({"kind": "constant", "value": 0}, "alpha.value: found 0, expected a number > 0"),
    ({"kind": "constant", "value": -1.5}, "alpha.value: found -1.5"),
    ({"kind": "constant", "value": True}, "alpha.value: found True"),
    ({"kind": "constant", "value": "1e-3"}, "alpha.value: found '1e-3'"),
    ({"kind": "constant", "value": math.inf}, "alpha.value: found inf"),
    ({"kind": "constant", "value": 1, "to": 2}, "alpha.to: unknown key for kind 'constant'"),
    ({"kind": "linear", "from": 1}, "alpha.to: missing"),
    ({"kind": "linear", "from": 0, "to": 1}, "alpha.from: found 0"),
    ({"kind": "linear", "from": 1, "to": -1}, "alpha.to: found -1"),
    ({"kind": "quadratic", "extreme": 0}, "alpha.extreme: found 0"),
    ({"kind": "quadratic", "extreme": None}, "alpha.extreme: found None"),
    ({"kind": "quadratic", "extreme": 1, "hold_mean": True}, "alpha.hold_mean: unknown key"),
    ({"kind": "steps", "factors": [1, 2]}, "alpha.every: missing"),
    ({"kind": "steps", "factors": [], "every": 2}, "alpha.factors: found []"),
    ({"kind": "steps", "factors": [1, 0, 1, 1, 1], "every": 2}, "alpha.factors[1]: found 0"),
    ({"kind": "steps", "factors": [1, 1], "every": 2}, "expected 5 factors"),
    ({"kind": "steps", "factors": [1, 1], "every": 0}, "alpha.every: found 0"),
    ({"kind": "steps", "factors": [1, 1], "every_s": 5}, "alpha.every_s: unknown key"),
    ({"kind": "sweep"}, "alpha.reading: missing"),
    ({"kind": "sweep", "reading": "linear"}, "alpha.reading: found 'linear'"),
    ({"kind": "sweep", "reading": "mean_rate", "extreme": 0}, "alpha.extreme: found 0"),
    ({"kind": "sweep", "reading": "cv_steps", "extreme": 0.5}, "the reading 'cv_steps' has none"),
    ({"kind": "table"}, "alpha.csv: missing"),
    ({"kind": "table", "csv": 5}, "alpha.csv: found 5"),
    ({"kind": "expression"}, "alpha.text: missing"),
    ({"kind": "expression", "text": ""}, "alpha.text: found ''"),
    ({"kind": "expression", "text": "1 +"}, "alpha.text: found '1 +'"),
    ({"kind": "expression", "text": "x + 1"}, "alpha.text: found 'x'"),
    ({"kind": "expression", "text": "t + 1"}, "(the phase lasts requests)"),
    ({"kind": "expression", "text": "u if u else 1"}, "arithmetic"),
    ({"kind": "expression", "text": "u and 1"}, "arithmetic"),
    ({"kind": "expression", "text": "[u]"}, "arithmetic"),
    ({"kind": "expression", "text": "(lambda: 1)()"}, "one of the functions"),
    ({"kind": "expression", "text": "__import__('os').system('id')"}, "one of the functions"),
    ({"kind": "expression", "text": "u.real"}, "arithmetic"),
    ({"kind": "expression", "text": "u[0]"}, "arithmetic"),
    ({"kind": "expression", "text": "open('x')"}, "one of the functions"),
    ({"kind": "expression", "text": "'a'"}, "numbers only"),
    ({"kind": "expression", "text": "1j"}, "numbers only"),
    ({"kind": "expression", "text": "exp(u, u)"}, "exp with 1 argument"),
    ({"kind": "expression", "text": "exp(*u)"}, "exp with 1 argument"),
    ({"kind": "expression", "text": "max(u)"}, "max with 2 arguments"),
    ({"kind": "expression", "text": "max(1, x=2)"}, "max with 2 arguments"),
    ({"kind": "expression", "text": "exp + 1"}, "a function followed by its arguments"),
    ({"kind": "expression", "text": "u(1)"}, "one of the functions"),
    ({"kind": "expression", "text": "0 < u < 1"}, "one comparison at a time"),
    ({"kind": "expression", "text": "u == 1"}, "arithmetic"),
    ({"kind": "expression", "text": "1 + " * 200 + "1"}, "at most 500"),
]


@pytest.mark.parametrize(("spec", "named"), WRONG, ids=[str(k) for k in range(len(WRONG))])
def test_wrong_function_is_refused_by_its_key(spec, named):
    with pytest.raises(PlanError) as caught:
        functions.check(spec, "phases[0].alpha", "request", "alpha", 10, None)
    assert str(caught.value).startswith("phases[0].alpha")
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "axis", "parameter", "named"),
    [
        ({"kind": "sweep", "reading": "quadratic"}, "request", "theta", "not theta"),
        ({"kind": "expression", "text": "i + 1"}, "time", "alpha", "(the phase lasts seconds)"),
    ],
)
def test_function_in_the_wrong_place_is_refused(spec, axis, parameter, named):
    with pytest.raises(PlanError) as caught:
        functions.check(spec, "p", axis, parameter, 400, None)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    "text", ["1 - 2 * u", "1 / (u - 0.5)", "log(u)", "9 ** 9 ** 9 ** 9", "1e308 * 1e308 * u", "0 * u"]
)
def test_expression_must_stay_finite_and_above_zero(text):
    spec = {"kind": "expression", "text": text}
    functions.check(spec, "p", "request", "beta", 5, None)
    with pytest.raises(PlanError, match=r"expected a finite value > 0 everywhere"):
        values(spec, at([0, 1, 2, 3, 4]))


@pytest.mark.parametrize("text", ["1" + "0" * 400, "-(u < 1)", "(u < 1) - (u < 1)"])
def test_formula_that_numpy_cannot_compute_is_refused(text):
    with pytest.raises(PlanError, match="text: found"):
        values({"kind": "expression", "text": text}, at([0, 1]))


def test_rounding_forgets_the_last_bits_only():
    x = np.random.default_rng(1).lognormal(0, 20, 1000)
    assert np.array_equal(functions.rounded(x), functions.rounded(np.nextafter(x, np.inf)))
    assert functions.rounded(x) == pytest.approx(x, rel=1e-12)
