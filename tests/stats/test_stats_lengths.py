import json

import numpy as np
import pytest
from burstbench import contracts
from burstbench.errors import UserError
from burstbench.stats.lengths import dip, fit_lengths, fit_rows, length_tables, log_dip
from scipy import optimize

SETTINGS = {"request_bin_tokens": 10, "response_bin_tokens": 5, "coarse_request_bins": [1, 20, 40]}


def counted(values):
    return np.unique(values, return_counts=True)


def draw(p, n, rng):
    return rng.choice(np.arange(1, len(p) + 1), n, p=p / p.sum())


def tables(request, response, **changes):
    return length_tables(
        "trace api X", np.array(request), np.array(response), SETTINGS | changes, np.random.default_rng(0)
    )


def test_histogram_counts_every_length_zero_included():
    rows = tables([0, 3, 3, 7], [5, 5, 1, 2])["length_counts"].to_pylist()
    assert [(row["quantity"], row["tokens"], row["requests"]) for row in rows] == [
        ("request", 0, 1), ("request", 3, 2), ("request", 7, 1),
        ("response", 1, 1), ("response", 2, 1), ("response", 5, 2),
    ]  # fmt: skip


def test_every_table_keeps_its_contract():
    rng = np.random.default_rng(1)
    request, response = rng.integers(0, 90, 400), rng.integers(1, 60, 400)
    for name, table in tables(request, response).items():
        contracts.CONTRACTS[name].validate(table, name)


def test_no_answered_request_gives_tables_without_rows():
    for name, table in tables(np.zeros(0, int), np.zeros(0, int)).items():
        assert contracts.CONTRACTS[name].validate(table, name).num_rows == 0


def test_few_lengths_leave_out_what_they_do_not_define():
    found = tables([4], [6])
    assert found["length_fits"].num_rows == 0
    statistics = set(found["length_tests"]["statistic"].to_pylist())
    assert {"response_mean", "response_max"} <= statistics
    assert not statistics & {"pearson", "slope", "response_dip"}


@pytest.mark.parametrize(
    ("request_tokens", "response_tokens", "changes", "message"),
    [
        ([1, 2], [1], {}, "not pairs"),
        ([1, -2], [1, 1], {}, "negative"),
        ([1], [1], {"request_bin_tokens": 0}, "request_bin_tokens"),
        ([1], [1], {"coarse_request_bins": [5, 5]}, "rising edges"),
    ],
)
def test_impossible_input_is_refused(request_tokens, response_tokens, changes, message):
    with pytest.raises(UserError, match=message):
        tables(request_tokens, response_tokens, **changes)


# Fits -----------------------------------------------------------------------------------------------------------------


def negative_log_likelihood(log_shape, values, n_max):
    """Of a shape (log of an unnormalised probability of 1 … n_max), summed value by value."""
    shape = np.exp(log_shape - log_shape.max())
    return -np.sum(np.log(shape[np.asarray(values) - 1] / shape.sum()))


def test_fits_agree_with_a_direct_search():
    rng = np.random.default_rng(4)
    values = np.minimum(rng.lognormal(3, 1, 800).astype(int) + 1, 500)
    n_max = values.max()
    k = np.arange(1, n_max + 1)
    shapes = {
        "zipf": (lambda p: -p[0] * np.log(k), [1.0], ["theta"]),
        "exponential": (lambda p: -p[0] * k, [0.05], ["rate"]),
        "powerlaw_cutoff": (lambda p: -p[0] * np.log(k) - p[1] * k, [0.5, 0.02], ["theta", "rate"]),
        "lognormal": (
            lambda p: -((np.log(k) - p[0]) ** 2) / (2 * p[1] ** 2) - np.log(k),
            [3.0, 1.0],
            ["mu", "sigma"],
        ),
    }
    fits = fit_lengths(*counted(values))
    for family, (shape, start, names) in shapes.items():
        reference = optimize.minimize(
            lambda p, shape=shape: negative_log_likelihood(shape(p), values, n_max),
            start,
            method="Nelder-Mead",
            options={"xatol": 1e-9, "fatol": 1e-11, "maxiter": 4000},
        )
        found = fits[family]
        assert [found.parameters[name] for name in names] == pytest.approx(reference.x, rel=1e-5)
        assert -found.log_p[values - 1].sum() == pytest.approx(reference.fun, abs=1e-6)
        assert np.exp(found.log_p).sum() == pytest.approx(1)


def test_zipf_is_recovered_and_wins_on_its_own_data():
    rng = np.random.default_rng(6)
    values = draw(np.arange(1, 3001.0) ** -1.1, 20_000, rng)
    rows = {row["family"]: row for row in fit_rows(*counted(values))}
    assert json.loads(rows["zipf"]["parameters"])["theta"] == pytest.approx(1.1, abs=0.02)
    assert rows["exponential"]["ratio"] < 0
    assert rows["exponential"]["p_value"] < 1e-6
    assert rows["powerlaw_cutoff"]["p_value"] > 0.01
    assert rows["zipf"]["ks"] < 0.02


def test_zipf_loses_on_lognormal_data():
    rng = np.random.default_rng(7)
    values = rng.lognormal(5, 1, 5000).astype(int) + 1
    rows = {row["family"]: row for row in fit_rows(*counted(values))}
    assert rows["lognormal"]["ratio"] > 100
    assert rows["lognormal"]["p_value"] < 1e-6
    assert rows["lognormal"]["aic"] < rows["zipf"]["aic"]
    assert rows["zipf"]["ks"] > 0.1


def test_a_tail_heavier_than_zipf_puts_the_larger_families_on_their_border():
    k = np.arange(1, 501)
    values = draw(k**-2.0 + 0.01 * np.exp(-(((k - 480) / 8.0) ** 2)), 5000, np.random.default_rng(8))
    fits = fit_lengths(*counted(values))
    assert fits["powerlaw_cutoff"].parameters == {}
    assert np.array_equal(fits["powerlaw_cutoff"].log_p, fits["zipf"].log_p)


def test_likelihood_ratio_test_of_the_nested_family_keeps_its_level():
    rng = np.random.default_rng(9)
    p = np.arange(1, 301.0) ** -0.8
    below = 0
    for _ in range(200):
        rows = {row["family"]: row for row in fit_rows(*counted(draw(p, 300, rng)))}
        below += rows["powerlaw_cutoff"]["p_value"] < 0.05
    assert below / 200 < 0.09  # the border makes it conservative: 2.5 % expected


# Tests ----------------------------------------------------------------------------------------------------------------


def test_dip_says_no_to_one_mode_and_yes_to_two():
    rng = np.random.default_rng(10)
    one = rng.poisson(30, 5000)
    two = np.concatenate((rng.poisson(20, 2500), rng.poisson(60, 2500)))
    assert dip(one, rng)[1] > 0.1
    assert dip(two, rng)[1] < 0.001
    # Ties alone are no modes.
    assert dip(rng.integers(1, 6, 20_000), rng)[1] > 0.05
    # Two modes of the logarithm, on an axis where the second is a flat tail.
    logs = np.concatenate((rng.lognormal(2, 0.3, 2500), rng.lognormal(6, 0.3, 2500))).astype(int)
    assert log_dip(logs, rng)[1] < 0.001


def test_dip_states_how_many_values_it_used():
    rng = np.random.default_rng(0)
    assert dip(rng.poisson(50, 80_000), rng)[2] == 72_000


def test_statistics_of_a_hand_made_run():
    request = np.array([10, 20, 30, 40, 50])
    response = np.array([100, 100, 95, 50, 10])
    rows = {row["statistic"]: row for row in tables(request, response)["length_tests"].to_pylist()}
    assert rows["response_mean"]["value"] == 71
    assert rows["response_median"]["value"] == 95
    assert rows["request_median"]["value"] == 30
    assert rows["response_max"]["value"] == 100
    assert rows["share_near_limit"]["value"] == pytest.approx(0.6)
    assert rows["share_at_limit"]["value"] == pytest.approx(0.4)
    assert rows["slope"]["value"] == pytest.approx(-2.3)
    assert rows["spearman"]["value"] < -0.9


def test_median_and_its_interval_come_from_order_statistics():
    rng = np.random.default_rng(12)
    inside = 0
    for _ in range(200):
        values = rng.poisson(40, 101)
        row = {r["statistic"]: r for r in tables(values, values + 1)["length_tests"].to_pylist()}["request_median"]
        assert row["value"] == np.median(values)
        inside += row["low"] <= 40 <= row["high"]
    assert inside > 185


# Bins -----------------------------------------------------------------------------------------------------------------


def test_response_by_request_agrees_with_numpy_bin_by_bin():
    rng = np.random.default_rng(13)
    request, response = rng.integers(0, 200, 3000), rng.integers(1, 500, 3000)
    table = tables(request, response)["response_by_request"]
    assert table["n"].to_numpy().sum() == 3000
    for row in table.to_pylist():
        inside = response[(request >= row["request_low"]) & (request < row["request_high"])]
        assert row["n"] == len(inside)
        assert row["response_median"] == pytest.approx(np.median(inside))
        assert row["response_mean"] == pytest.approx(np.mean(inside))
        assert row["response_p05"] == pytest.approx(np.quantile(inside, 0.05))
        assert row["response_p95"] == pytest.approx(np.quantile(inside, 0.95))


def test_empty_request_bins_have_no_row():
    table = tables([5, 35], [1, 2])["response_by_request"]
    assert table["request_low"].to_pylist() == [0, 30]


def test_coarse_bins_count_by_hand():
    # Edges 1, 20, 40: 0 and 40 lie outside. Response bins of 5: [0, 5), [5, 10), [10, 15).
    rows = tables([0, 1, 19, 20, 39, 40], [3, 4, 5, 14, 14, 9])["response_bins"].to_pylist()
    found = {(row["request_low"], row["response_low"]): row["n"] for row in rows}
    assert found == {(1, 0): 1, (1, 5): 1, (1, 10): 0, (20, 0): 0, (20, 5): 0, (20, 10): 2}
