"""The twin: exact where totals are published, close where boxes are, and the same bytes from the same seed."""

import dataclasses
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from burstbench.cli import main
from burstbench.contracts import TRACE
from burstbench.errors import UserError
from burstbench.trace import arrivals, tokens
from burstbench.trace.check import check_trace
from burstbench.trace.published import PublishedError, read_published
from burstbench.trace.twin import make_twin
from scipy import stats

START = date(2023, 11, 1)
FOLDER = Path(__file__).parents[2] / "data" / "published"


@pytest.fixture(scope="module")
def published():
    return read_published(FOLDER)


@pytest.fixture(scope="module")
def twin(published):
    return make_twin(published, 1_429_737, 61, START, 11)


@pytest.fixture(scope="module")
def check(published, twin):
    return check_trace(twin, published, START, 61).to_pandas()


def count(table: pa.Table, **labels: str) -> int:
    for name, label in labels.items():
        table = table.filter(pc.equal(table[name], label))
    return table.num_rows


def test_cells_lie_where_the_papers_thousands_say(published):
    cells = arrivals.cell_totals(published)
    assert {stream: n // 1000 for stream, n in cells.items()} == {
        ("conversation", "ChatGPT"): 103,
        ("conversation", "GPT-4"): 51,
        ("api", "ChatGPT"): 1106,
        ("api", "GPT-4"): 168,
    }
    # No number fits if the thousands are read as rounded: then ChatGPT's conversations would be 103.6 to 104.6 k by the
    # API's 1106 k, and at most 103.5 k by their own.
    rounded = {
        key: dataclasses.replace(moment, value=moment.value - 500) if moment.source.endswith("cut off") else moment
        for key, moment in published.moments.items()
    }
    with pytest.raises(PublishedError, match="contradict"):
        arrivals.cell_totals(dataclasses.replace(published, moments=rounded))


def test_totals_are_exact(twin):
    TRACE.validate(twin, "twin")
    assert twin.num_rows == 1_429_737
    assert count(twin, model="ChatGPT") == 1_210_109
    assert count(twin, model="GPT-4") == 219_628
    assert count(twin, service="api") == 1_275_518
    assert count(twin, service="conversation") == 154_219


def test_failures_are_exact(twin):
    failed = twin.filter(twin["failed"])
    assert failed.num_rows == 25_443
    assert pc.sum(pc.equal(twin["response_tokens"], 0)).as_py() == 25_443
    assert pc.sum(pc.equal(twin["request_tokens"], 0)).as_py() == 25_427
    assert count(failed, service="conversation") == 8_512
    assert count(failed, model="GPT-4") == 4_501
    for service in ("conversation", "api"):
        rates = [count(failed, service=service, model=m) / count(twin, service=service, model=m)
                 for m in ("ChatGPT", "GPT-4")]  # fmt: skip
        assert rates[0] > rates[1]


def test_times(twin):
    times = twin["time_s"].to_numpy()
    assert times[0] == 5
    assert times[-1] == 5_269_973
    assert np.array_equal(times, np.floor(times))
    assert np.diff(times).max() == 15_240


def test_close_to_what_is_published(check):
    """Daily totals within 2 %, hourly medians within 10 %, token quartiles within 5 %, as the study asks."""
    daily = check[check["table"].eq("daily_requests")]
    assert daily[~daily["clipped"]]["error"].abs().max() < 0.02
    assert (daily[daily["clipped"]]["found"] >= 27_930).all()
    boxes = check[check["table"].eq("hourly_boxes")]
    medians = boxes[boxes["item"].str.endswith(" median") & boxes["published"].gt(0)]
    assert len(medians) > 220
    assert medians["error"].abs().lt(0.1).mean() > 0.97
    conversation = medians[medians["item"].str.contains("request_count conversation")]
    assert conversation["error"].abs().max() < 0.1
    moments = check[check["table"].eq("moments")].set_index("item")
    for name in ("request tokens", "response tokens"):
        for item in ("mean", "sd", "1st quartile", "median", "3rd quartile", "max"):
            assert abs(moments["error"][f"{name}: {item}"]) < 0.01, (name, item)
    assert abs(moments["error"]["gaps: share of rows that repeat the previous timestamp"]) < 0.03
    assert abs(moments["error"]["gaps: sd"]) < 0.15
    curve = check[check["table"].eq("response_by_request_tokens") & check["item"].str.contains("median")]
    assert curve["error"].abs().median() < 0.08


def test_conversations_are_steadier_than_the_api(twin):
    days = {}
    for service in ("conversation", "api"):
        times = twin.filter(pc.equal(twin["service"], service))["time_s"].to_numpy()
        days[service] = np.bincount((times // 86400).astype(int), minlength=61)
    cv = {service: n.std() / n.mean() for service, n in days.items()}
    assert cv["conversation"] < 0.5 < 0.8 < cv["api"]


@pytest.mark.parametrize(("rows", "days", "start"), [
    (1000, 1, START),
    (20_000, 61, START),
    (50_000, 7, date(2024, 2, 29)),
    (30_000, 90, START),
])  # fmt: skip
def test_other_sizes(published, rows, days, start):
    table = make_twin(published, rows, days, start, 3)
    TRACE.validate(table, "twin")
    assert table.num_rows == rows
    assert table["time_s"][-1].as_py() < days * 86400
    assert count(table, service="api") / rows == pytest.approx(1_275_518 / 1_429_737, abs=2 / rows)
    assert pc.sum(table["failed"]).as_py() / rows == pytest.approx(25_443 / 1_429_737, abs=3 / rows)


def test_same_seed_same_bytes_other_seed_other_rows(tmp_path, published):
    settings = '{"rows": 5000, "days": 3, "start": "2023-11-06", "seed": %d}'
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        out = str(tmp_path / f"{name}.parquet")
        files = ["--published", str(FOLDER), "--out", out, "--window", f"{out}.csv"]
        main(["trace", "twin", "--settings", settings % seed, *files])
    a, b, c = ((tmp_path / f"{name}.parquet").read_bytes() for name in "abc")
    assert a == b
    assert a != c


@pytest.mark.parametrize("change", [{"rows": 10}, {"days": 0}])
def test_wrong_sizes(published, change):
    with pytest.raises(UserError, match=next(iter(change))):
        make_twin(published, **{"rows": 5000, "days": 3, "start": START, "seed": 1, **change})


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(PublishedError, match=r"moments\.csv"):
        read_published(tmp_path)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 3.0])
def test_gaps_within_a_window_are_gamma(alpha):
    """Given that n + 1 Gamma gaps fill a window, each is Beta(alpha, n alpha) of it."""
    rng = np.random.default_rng(1)
    windows, n = 4000, 5
    starts = np.arange(windows) * 100.0
    edges = np.stack([starts, starts + 100], axis=1)
    times = arrivals.gamma_bridges(np.full(windows, n), np.full(windows, alpha), edges, rng).reshape(windows, n)
    assert (np.diff(times, axis=1) >= 0).all()
    gaps = np.diff(times, axis=1)[:, 1] / 100
    assert stats.kstest(gaps, stats.beta(alpha, n * alpha).cdf).pvalue > 1e-3


def test_no_arrivals_no_times():
    edges = np.array([[0.0, 10.0], [10.0, 20.0]])
    rng = np.random.default_rng(1)
    assert len(arrivals.gamma_bridges(np.zeros(2, int), np.ones(2), edges, rng)) == 0
    times = arrivals.gamma_bridges(np.array([0, 3]), np.ones(2), edges, rng)
    assert ((times >= 10) & (times < 20)).all()


def test_whole_numbers_keep_the_sum():
    values = np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 5.0], [0.0, 0.0, 0.0]])
    assert arrivals.whole_numbers(values, np.array([10, 3, 3])).tolist() == [[4, 3, 3], [0, 0, 3], [1, 1, 1]]


def test_boxes_and_days_can_both_be_met():
    rng = np.random.default_rng(2)
    truth = rng.gamma(20, 5, (300, 3))
    box = np.quantile(truth, (0, 0.25, 0.5, 0.75, 1), axis=0).T
    guess = truth * np.exp(rng.normal(0, 0.3, truth.shape))
    fitted = arrivals.fit_boxes(guess, truth.sum(axis=1), box, np.ones(300, bool))
    assert fitted.sum(axis=1) == pytest.approx(truth.sum(axis=1))
    quartiles = np.quantile(fitted, (0.25, 0.5, 0.75), axis=0).T
    assert quartiles == pytest.approx(box[:, 1:4], rel=1e-6)


def test_a_day_beyond_the_boxes_has_outliers_and_moves_no_quartile():
    box = np.tile([10.0, 20, 30, 40, 50], (24, 1))
    guess = np.tile(np.linspace(10, 50, 41)[:, None], 24)
    totals = guess.sum(axis=1)
    totals[-1] = 5000  # at most 24 * 50 fit within the whiskers
    fitted = arrivals.fit_boxes(guess, totals, box, np.ones(41, bool))
    assert fitted.sum(axis=1) == pytest.approx(totals)
    quartiles = np.quantile(fitted, (0.25, 0.5, 0.75), axis=0).T
    assert quartiles == pytest.approx(box[:, 1:4])
    assert fitted[-1].min() > 50


@pytest.mark.parametrize("n", [1, 2, 5, 7, 8, 20, 43])
def test_values_within_their_quarters_have_the_boxs_quartiles(n):
    corners = np.array([1.0, 10, 30, 70, 200])
    wanted, least, most = arrivals._quarters(n, corners)
    assert (least <= wanted).all()
    assert (wanted <= most).all()
    if n >= arrivals.LEAST_FOR_QUARTILES:
        for values in (wanted, least, most, (least + most) / 2):
            assert np.quantile(values, (0.25, 0.5, 0.75)) == pytest.approx(corners[1:4])


def test_weibull_tail_has_the_sums():
    wanted = stats.weibull_min(0.8, scale=300).rvs(200_000, random_state=3) + 50
    wanted = np.minimum(wanted, 6000)
    tail = tokens.weibull_tail(len(wanted), 50, 6000, wanted.sum(), np.square(wanted).sum())
    assert tail.mean() == pytest.approx(wanted.mean(), rel=1e-3)
    assert tail.std() == pytest.approx(wanted.std(), rel=1e-2)
    assert tail[-1] == 6000
    assert tail.min() >= 50


def test_dealt_lengths_are_the_given_ones_with_the_wanted_means():
    rng = np.random.default_rng(4)
    lengths = np.sort(np.ceil(rng.lognormal(5, 1, 40_000))).astype(np.int64)
    cell = rng.integers(0, 4, len(lengths))
    means = np.array([100.0, 200.0, 300.0, 250.0])
    sums = means * np.bincount(cell)
    dealt = tokens.deal_lengths(lengths, cell, sums, np.array([True, True, True, False]), rng)
    assert np.array_equal(np.sort(dealt), lengths)
    assert [dealt[cell == k].mean() for k in range(3)] == pytest.approx(means[:3], rel=0.1)


def test_responses_follow_the_published_curve(published):
    """At 500 request tokens the table has 23, 168, 219 and 466 for the 5th percentile, median, mean, 95th."""
    cell = np.arange(200_000) % 2
    sums = np.array([100_000 * 180.0, 0.0])
    draws = tokens.conversation_responses(
        published, "ChatGPT", np.full(200_000, 500), cell, sums, np.array([True, False]), np.random.default_rng(5)
    )
    assert draws[cell == 0].mean() == pytest.approx(180, rel=0.03)
    assert np.quantile(draws, (0.05, 0.5, 0.95)) == pytest.approx([23, 168, 466], rel=0.03)
    assert draws.mean() == pytest.approx(219, rel=0.02)


def test_hours_are_drawn_until_their_medians_are_the_published_ones():
    wanted = read_published(FOLDER).boxes["hourly_request_count", "api", "ChatGPT"][:, 2]
    right = np.maximum(np.nan_to_num(wanted), 1).astype(int)
    draws = [right * 2, right * 2, right, right * 2]
    found = arrivals.drawn_hours(wanted, np.ones(30, bool), lambda: np.tile(draws.pop(0), (30, 1)))
    assert (found == right).all()
    assert len(draws) == 1
