"""The five verbs on small traces made by hand, and on one drawn at random."""

import itertools
import json

import numpy as np
import pyarrow as pa
import pytest
from burstbench import contracts
from burstbench.characterise import bursts, counts, failures, gamma, loads
from burstbench.characterise.cells import Calendar, read_cells
from burstbench.cli import main
from burstbench.errors import UserError
from scipy import stats

DAY = 86_400
CALENDAR = {"start": "2023-11-01", "days": 14}  # a Wednesday
SETTINGS = {
    "counts": {**CALENDAR, "seed": 1},
    "bursts": {
        **CALENDAR, "seed": 1, "widths_s": [300, 600], "alignment": "aligned", "zero_rule": "skip", "service": "all",
        "model": "ChatGPT",
    },
    "gamma": {
        **CALENDAR, "seed": 1, "window_s": 1200, "offset_s": 0, "resolution_s": "detected", "minimum_gaps": 20,
        "estimator": "seconds", "workday_hours": [8, 22], "bootstrap_windows": 2,
    },
    "lengths": {"seed": 1, "request_bin_tokens": 20, "coarse_request_bins": [1, 100, 500], "response_bin_tokens": 25},
    "failures": CALENDAR,
}  # fmt: skip
OUTPUTS = {
    "counts": ("daily_counts", "hourly_counts", "periodicity"),
    "bursts": ("doublings", "burst_ratios"),
    "gamma": ("gamma_windows", "gamma_profile", "gamma_summary", "gamma_counts", "gamma_families"),
    "lengths": ("length_counts", "length_fits", "length_tests", "response_by_request", "response_bins"),
    "failures": ("failures", "daily_failures", "failure_loads"),
}


def write_trace(path, rows):
    """Rows of (time, service, model, request tokens, response tokens), sorted by time here."""
    time_s, service, model, request, response = zip(*sorted(rows), strict=True)
    contracts.TRACE.write(
        {
            "time_s": pa.array(time_s, pa.float64()),
            "service": list(service),
            "model": list(model),
            "request_tokens": list(request),
            "response_tokens": list(response),
            "failed": [tokens == 0 for tokens in response],
            "session_id": pa.nulls(len(rows), pa.string()),
            "elapsed_s": pa.nulls(len(rows), pa.float64()),
        },
        path,
    )
    return path


def verb(name, trace, folder, **changes):
    """Call a verb as the workflow does; return its tables by name."""
    files = {output: folder / f"{output}.parquet" for output in OUTPUTS[name]}
    options = [text for output, file in files.items() for text in (f"--{output.replace('_', '-')}", str(file))]
    main(["characterise", name, "--settings", json.dumps(SETTINGS[name] | changes), "--trace", str(trace), *options])
    return {output: contracts.CONTRACTS[output].read(file) for output, file in files.items()}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Two weeks of two cells: steady conversation in working hours, bursty api all day."""
    rng = np.random.default_rng(1)
    rows = []
    for service, model, alpha, mean in (("conversation", "ChatGPT", 1.2, 25.0), ("api", "GPT-4", 0.3, 8.0)):
        stamps = np.floor(np.cumsum(rng.gamma(alpha, mean / alpha, int(14 * DAY / mean * 1.2))))
        stamps = stamps[stamps < 14 * DAY]
        if service == "conversation":
            stamps = stamps[(stamps % DAY > 8 * 3600) & (stamps % DAY < 20 * 3600)]
        request = rng.lognormal(5, 1, len(stamps)).astype(int)
        response = np.where(rng.random(len(stamps)) < 0.05, 0, 1 + rng.poisson(40, len(stamps)))
        rows += [(t, service, model, int(a), int(b)) for t, a, b in zip(stamps, request, response, strict=True)]
    return write_trace(tmp_path_factory.mktemp("trace") / "trace.parquet", rows)


@pytest.mark.parametrize("name", OUTPUTS)
def test_verbs_write_their_contracts_and_the_same_bytes_again(name, drawn, tmp_path):
    changes = {"model": "all"} if name == "bursts" else {}
    tables = verb(name, drawn, tmp_path / "one", **changes)
    assert all(table.num_rows for table in tables.values())
    verb(name, drawn, tmp_path / "two", **changes)
    for output in OUTPUTS[name]:
        one, two = (tmp_path / folder / f"{output}.parquet" for folder in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


def test_a_request_after_the_calendar_is_refused(drawn, tmp_path, capsys):
    with pytest.raises(SystemExit):
        verb("counts", drawn, tmp_path, days=13)
    message = capsys.readouterr().err
    assert "column 'time_s', row" in message
    assert f"less than {13 * DAY} s" in message


@pytest.mark.parametrize(("start", "days"), [("1.11.2023", 3), ("2023-11-01", 0)])
def test_an_impossible_calendar_is_refused(start, days):
    with pytest.raises(UserError, match="expected"):
        Calendar.of(start, days)


def test_calendar_knows_its_weekdays():
    calendar = Calendar.of("2023-11-01", 6)
    assert calendar.weekdays.tolist() == [3, 4, 5, 6, 7, 1]
    assert calendar.workdays.tolist() == [True, True, True, False, False, True]


# counts ---------------------------------------------------------------------------------------------------------------


def test_counts_by_hand(tmp_path):
    trace = write_trace(
        tmp_path / "trace.parquet",
        [
            (0, "api", "GPT-4", 10, 5),
            (3599, "api", "GPT-4", 20, 0),
            (3600, "api", "GPT-4", 40, 7),
            (DAY + 5, "conversation", "GPT-4", 3, 2),
        ],
    )
    tables = verb("counts", trace, tmp_path, days=3)
    daily = {(r["day"], r["service"]): r for r in tables["daily_counts"].to_pylist()}
    assert len(daily) == 3 * 2
    assert (daily[1, "api"]["requests"], daily[1, "api"]["failed"]) == (3, 1)
    assert daily[2, "conversation"]["requests"] == 1
    assert daily[3, "api"]["requests"] == 0
    assert (daily[1, "api"]["date"], daily[1, "api"]["iso_week"], daily[1, "api"]["weekday"]) == ("2023-11-01", 44, 3)
    hourly = {(r["day"], r["hour"], r["service"]): r for r in tables["hourly_counts"].to_pylist()}
    assert len(hourly) == 3 * 24 * 2
    assert hourly[1, 0, "api"]["requests"] == 2
    assert hourly[1, 0, "api"]["request_tokens"] == 30
    assert hourly[1, 0, "api"]["response_tokens"] == 5
    assert hourly[1, 1, "api"]["request_tokens"] == 40
    assert hourly[2, 0, "conversation"]["failed"] == 0


def test_counts_sum_to_the_trace(drawn):
    calendar = Calendar.of("2023-11-01", 14)
    cells = read_cells(drawn, "failed", "request_tokens", "response_tokens", calendar=calendar)
    found = counts.hourly(cells, calendar)
    assert found["requests"].sum() == len(cells.time_s)
    assert found["request_tokens"].sum() == cells.column("request_tokens").sum()
    assert found["failed"].sum() == cells.column("failed").sum()


def test_periodicity_tells_the_daily_cell_from_the_steady_one(drawn, tmp_path):
    rows = verb("counts", drawn, tmp_path)["periodicity"].to_pylist()
    found = {(r["service"], r["model"], r["statistic"]): r for r in rows}
    assert found["conversation", "ChatGPT", "autocorrelation_24h"]["low"] > 0.9
    assert found["api", "GPT-4", "autocorrelation_24h"]["value"] < 0.4
    assert ("conversation", "GPT-4", "daily_cv") not in found
    assert ("all", "all", "request_tokens_daily_cv") in found


# bursts ---------------------------------------------------------------------------------------------------------------


def doublings(minutes, width_s, alignment, zero_rule):
    """Requests in each minute of the start of a day."""
    time_s = np.repeat(np.arange(len(minutes)) * 60, minutes)
    found = bursts.find_doublings(time_s, width_s, 1, alignment, zero_rule)
    return found.ratio.tolist()


def test_aligned_doublings_by_hand():
    # Windows of one minute: 2, 4 (2x), 4, 0, 5 (after none), 11 (2.2x), 10, 3, 9 (3x).
    minutes = [2, 4, 4, 0, 5, 11, 10, 3, 9]
    assert doublings(minutes, 60, "aligned", "skip") == [2, 2.2, 3]
    assert doublings(minutes, 60, "aligned", "count") == [2, np.inf, 2.2, 3]


def test_sliding_doublings_count_neighbours_once():
    # Two-minute windows, border after minute k: (1+1 → 1+2), (1+1 → 2+4: 3x), (1+2 → 4+4: 2.67x), (2+4 → 4+1).
    assert doublings([1, 1, 1, 2, 4, 4, 1, 1], 120, "sliding", "skip") == pytest.approx([3])


def test_sliding_agrees_with_brute_force():
    rng = np.random.default_rng(3)
    time_s = np.sort(rng.integers(0, 2 * DAY, 1500))
    found = bursts.find_doublings(time_s, 300, 2, "sliding", "count")
    inside, starts = False, []
    for border in range(300, 2 * DAY - 300 + 1, 60):
        before = ((time_s >= border - 300) & (time_s < border)).sum()
        after = ((time_s >= border) & (time_s < border + 300)).sum()
        now = after > 0 and after >= 2 * before
        if now and not inside:
            starts.append(border // DAY)
        inside = now
    assert found.day.tolist() == starts


def test_a_doubling_over_midnight_belongs_to_the_new_day():
    time_s = np.array([DAY - 10, DAY + 10, DAY + 20])
    assert bursts.find_doublings(time_s, 300, 2, "aligned", "skip").day.tolist() == [1]


def test_every_definition_stands_in_the_table_and_the_papers_number_beside_its_rows(drawn, tmp_path):
    rows = verb("bursts", drawn, tmp_path)["doublings"].to_pylist()
    # widths x alignments x zero rules x kinds of day, for 2 cells and 5 pools with requests.
    assert len(rows) == 2 * 2 * 2 * 3 * 7
    published = [r for r in rows if r["published"] is not None]
    assert {(r["model"], r["day_type"]) for r in published} == {("ChatGPT", "workday")}
    assert {(r["width_s"], r["published"]) for r in published} == {(300, 65.0), (600, 38.0)}
    assert all(r["low"] <= r["per_day"] <= r["high"] for r in rows)
    assert {r["days"] for r in rows} == {10, 4, 14}


def test_ratios_add_up_to_the_doublings_of_the_same_definition(drawn, tmp_path):
    tables = verb("bursts", drawn, tmp_path, alignment="sliding", zero_rule="count")
    for width in (300, 600):
        total = sum(r["per_day"] for r in tables["burst_ratios"].to_pylist() if r["width_s"] == width)
        [row] = [
            r
            for r in tables["doublings"].to_pylist()
            if (r["width_s"], r["alignment"], r["zero_rule"], r["service"], r["model"], r["day_type"])
            == (width, "sliding", "count", "all", "ChatGPT", "workday")
        ]
        assert total == pytest.approx(row["per_day"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths_s": [7000]}, "divisor of a day"),
        ({"alignment": "loose"}, "expected one of aligned"),
        ({"model": "Claude"}, "not in the trace"),
        ({"start": "2023-11-04", "days": 2}, "expected less than"),
    ],
)
def test_bursts_refuse_impossible_settings(changes, message, drawn, tmp_path, capsys):
    with pytest.raises(SystemExit):
        verb("bursts", drawn, tmp_path, **changes)
    assert message in capsys.readouterr().err


# gamma ----------------------------------------------------------------------------------------------------------------


def test_gaps_over_a_border_belong_to_no_window(tmp_path):
    times = (0, 5, 1199, 1200, 1203, 2400)
    trace = write_trace(tmp_path / "trace.parquet", [(t, "api", "GPT-4", 1, 1) for t in times])
    calendar = Calendar.of("2023-11-01", 1)
    windows, axis = gamma.cut(read_cells(trace, calendar=calendar), calendar, 1200)
    api = 72  # the cell conversation GPT-4, without requests, comes first
    assert windows.window.tolist() == [api, api, api + 1]
    assert windows.gap.tolist() == [5, 1194, 3]
    assert windows.requests[api : api + 3].tolist() == [3, 2, 1]
    assert axis.tolist() == [DAY + t for t in times]


def test_windows_recover_the_cells_they_were_drawn_from(drawn, tmp_path):
    tables = verb("gamma", drawn, tmp_path, window_s=3600)
    rows = [r for r in tables["gamma_windows"].to_pylist() if r["estimator"] == "seconds"]
    assert len(rows) == 4 * 14 * 24
    for service, model, alpha in (("conversation", "ChatGPT", 1.2), ("api", "GPT-4", 0.3)):
        own = [r for r in rows if (r["service"], r["model"]) == (service, model) and r["converged"]]
        assert len(own) > 100
        assert np.median([r["alpha"] for r in own]) == pytest.approx(alpha, rel=0.1)
        covered = np.mean([r["alpha_low"] <= alpha <= r["alpha_high"] for r in own])
        assert covered > 0.9
        assert all(r["cv"] == pytest.approx(r["alpha"] ** -0.5) for r in own)
        assert all(r["beta_scale_s"] * r["beta_rate_per_s"] == pytest.approx(1) for r in own)


def test_windows_with_few_gaps_are_listed_without_a_fit(drawn, tmp_path):
    rows = verb("gamma", drawn, tmp_path)["gamma_windows"].to_pylist()
    few = [r for r in rows if r["gaps"] < 20]
    assert few
    assert not any(r["converged"] for r in few)
    assert all(r["alpha"] is None for r in few)
    night = [r for r in rows if r["service"] == "conversation" and r["window_s"] == 0 and r["model"] == "ChatGPT"]
    assert {r["requests"] for r in night} == {0}


def test_profile_is_the_median_over_the_workdays(drawn, tmp_path):
    tables = verb("gamma", drawn, tmp_path, estimator="jitter", workday_hours=[9, 11])
    profile = [r for r in tables["gamma_profile"].to_pylist() if (r["service"], r["model"]) == ("api", "GPT-4")]
    assert [r["window_s"] for r in profile] == [9 * 3600 + 1200 * k for k in range(6)]
    windows = [
        r
        for r in tables["gamma_windows"].to_pylist()
        if (r["service"], r["model"], r["estimator"]) == ("api", "GPT-4", "jitter") and r["weekday"] <= 5
    ]
    for row in profile:
        own = [r for r in windows if r["window_s"] == row["window_s"]]
        fitted = [r["alpha"] for r in own if r["converged"]]
        assert row["windows"] == len(fitted)
        assert row["alpha"] == pytest.approx(np.median(fitted))
        assert row["alpha_q3"] == pytest.approx(np.quantile(fitted, 0.75))
        assert row["rate_per_s"] == pytest.approx(np.mean([r["requests"] for r in own]) / 1200)


def test_families_are_compared_and_gamma_wins_on_gamma(drawn, tmp_path):
    rows = verb("gamma", drawn, tmp_path, window_s=3600, bootstrap_windows=0)["gamma_families"].to_pylist()
    api = {r["family"]: r for r in rows if r["service"] == "api"}
    assert set(api) == {"gamma", "exponential", "weibull", "lognormal", "pareto"}
    assert api["gamma"]["aic_best_share"] > 0.7
    assert api["exponential"]["aic_delta_median"] > 50
    assert sum(r["aic_best_share"] for r in api.values()) == pytest.approx(1)
    assert api["gamma"]["test_pass_share"] is None


def test_goodness_of_fit_states_its_power(drawn, tmp_path):
    rows = verb("gamma", drawn, tmp_path, window_s=3600, bootstrap_windows=8)["gamma_families"].to_pylist()
    api = {r["family"]: r for r in rows if r["service"] == "api"}
    assert api["gamma"]["power_against"] == "lognormal"
    assert api["gamma"]["test_pass_share"] > 0.6
    assert api["exponential"]["test_pass_share"] < 0.2
    assert api["exponential"]["test_power"] > 0.9


@pytest.mark.parametrize(
    ("times", "expected"),
    [([0, 5, 5_269_973], 1), ([0, 5.5], 0.1), ([3.02, 5e6 + 0.01], 0.01), ([0.001], 0.001), ([1 / 3, 0.7], 0.001)],
)
def test_the_resolution_is_seen_in_the_timestamps(times, expected):
    assert gamma.resolution(np.array(times, dtype=float)) == expected


@pytest.mark.parametrize(("digits", "tick"), [(0, 1), (1, 0.1), (7, 0.001)])
def test_fractions_of_seconds_give_the_fit_of_exact_gaps(digits, tick, tmp_path, capsys):
    """A busy stream: SciPy's fit of the gaps before they were cut is within the interval; the same for milliseconds."""
    rng = np.random.default_rng(8)
    gap = rng.gamma(0.5, 4.0, 500)
    exact = np.cumsum(gap)
    exact = exact[exact < 1200]
    stamps = np.floor(exact * 10**digits) / 10**digits
    trace = write_trace(tmp_path / "trace.parquet", [(t, "api", "GPT-4", 1, 1) for t in stamps])
    tables = verb("gamma", trace, tmp_path, days=1, workday_hours=[0, 24], bootstrap_windows=0)
    assert f"known to {tick:g} s (detected)" in capsys.readouterr().err
    [row] = [r for r in tables["gamma_windows"].to_pylist() if r["converged"] and r["estimator"] == "seconds"]
    alpha, _, beta = stats.gamma.fit(np.diff(exact), floc=0)
    assert row["alpha_low"] < alpha < row["alpha_high"]
    assert row["beta_scale_s"] * row["alpha"] == pytest.approx(np.diff(exact).mean(), rel=0.01)
    if digits == 7:
        assert row["alpha"] == pytest.approx(alpha, rel=0.01)
        assert row["beta_scale_s"] == pytest.approx(beta, rel=0.01)


def test_windows_may_start_within_the_day(tmp_path):
    times = (100, 599, 600, 1799, 1800, 1801, DAY - 1, DAY + 599, DAY + 600)
    trace = write_trace(tmp_path / "trace.parquet", [(t, "api", "GPT-4", 1, 1) for t in times])
    calendar = Calendar.of("2023-11-01", 2)
    windows, _ = gamma.cut(read_cells(trace, calendar=calendar), calendar, 1200, 600)
    own = windows.requests[2 * 72 :]
    assert own[:3].tolist() == [2, 2, 0]
    assert own[71:73].tolist() == [2, 1], "the last window of a day ends after midnight"
    assert windows.gap.tolist() == [1199, 1, 600]
    rows = verb("gamma", trace, tmp_path, days=2, offset_s=600)["gamma_windows"].to_pylist()
    assert {r["window_s"] % 1200 for r in rows} == {600}


def test_summary_says_how_the_estimators_differ(drawn, tmp_path):
    tables = verb("gamma", drawn, tmp_path, window_s=3600, bootstrap_windows=0)
    summary = {(r["service"], r["day_type"], r["estimator"]): r for r in tables["gamma_summary"].to_pylist()}
    windows = [r for r in tables["gamma_windows"].to_pylist() if r["service"] == "api" and r["model"] == "GPT-4"]
    for kind, days in (("workday", range(1, 6)), ("weekend", (6, 7))):
        for estimator in ("seconds", "jitter", "moments"):
            own = [r for r in windows if r["weekday"] in days and r["estimator"] == estimator]
            row = summary["api", kind, estimator]
            fitted = [r for r in own if r["converged"]]
            assert row["fitted"] == len(fitted)
            assert row["few"] == sum(r["requests"] > 0 and r["gaps"] < 20 for r in own)
            assert row["alpha"] == pytest.approx(np.median([r["alpha"] for r in fitted]))
            assert row["cv"] == pytest.approx(np.median([r["cv"] for r in fitted]))
    assert summary["api", "all", "seconds"]["alpha_ratio"] == 1
    assert summary["api", "all", "seconds"]["inside_share"] == 1
    # The jitter hides how close the closest requests are; that biases a shape of 0.3 upwards.
    assert summary["api", "all", "jitter"]["alpha_ratio"] > 1
    assert {r["resolution_s"] for r in summary.values()} == {1}


def test_the_counts_reading_by_hand(tmp_path):
    """Two workdays: 1 and 3 requests in the first window, 2 and 2 in the second."""
    times = [0, 1200, 1201, DAY, DAY + 1, DAY + 2, DAY + 1200, DAY + 1300]
    trace = write_trace(tmp_path / "trace.parquet", [(t, "api", "GPT-4", 1, 1) for t in times])
    first, second = verb("gamma", trace, tmp_path, days=2)["gamma_counts"].to_pylist()
    assert (first["mean"], first["variance"], first["alpha"], first["beta_scale"], first["beta_rate"]) == (
        2,
        2,
        2,
        1,
        1,
    )
    assert (second["mean"], second["variance"], second["alpha"], second["beta_scale"]) == (2, 0, None, None)
    assert (first["days"], second["window_s"]) == (2, 1200)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window_s": 1000}, "divisor of a day"),
        ({"offset_s": 1200}, "less than window_s, 1200"),
        ({"resolution_s": 7}, "expected a divisor of window_s, 1200, of at least 0.0001"),
        ({"resolution_s": 0}, "expected a divisor of window_s"),
        ({"estimator": "magic"}, "expected one of seconds"),
        ({"minimum_gaps": 1}, "at least 2"),
        ({"workday_hours": [8, 8]}, "no window of"),
    ],
)
def test_gamma_refuses_impossible_settings(changes, message, drawn, tmp_path, capsys):
    with pytest.raises(SystemExit):
        verb("gamma", drawn, tmp_path, **changes)
    assert message in capsys.readouterr().err


# lengths and failures -------------------------------------------------------------------------------------------------


def test_lengths_are_of_answered_requests_by_cell(tmp_path):
    trace = write_trace(
        tmp_path / "trace.parquet",
        [(0, "api", "GPT-4", 7, 0), (1, "api", "GPT-4", 9, 4), (2, "conversation", "GPT-4", 5, 3)],
    )
    rows = verb("lengths", trace, tmp_path)["length_counts"].to_pylist()
    assert [(r["source"], r["quantity"], r["tokens"]) for r in rows] == [
        ("trace conversation GPT-4", "request", 5),
        ("trace conversation GPT-4", "response", 3),
        ("trace api GPT-4", "request", 9),
        ("trace api GPT-4", "response", 4),
    ]


def test_failures_pool_the_other_way_than_the_cells_by_hand(tmp_path):
    """ChatGPT fails more in each service, GPT-4 more in the pool: the pool weighs by requests."""
    cells = {("conversation", "ChatGPT"): (10, 5), ("conversation", "GPT-4"): (90, 36), ("api", "ChatGPT"): (90, 9)}
    cells["api", "GPT-4"] = (10, 0)
    rows = []
    for (service, model), (requests, failed) in cells.items():
        rows += [(k, service, model, 1, int(k >= failed)) for k in range(requests)]
    tables = verb("failures", write_trace(tmp_path / "trace.parquet", rows), tmp_path)
    rate = {(r["service"], r["model"]): r["rate"] for r in tables["failures"].to_pylist()}
    assert rate["conversation", "ChatGPT"] == 0.5
    assert rate["conversation", "GPT-4"] == 0.4
    assert rate["api", "ChatGPT"] == 0.1
    assert (rate["all", "ChatGPT"], rate["all", "GPT-4"]) == (0.14, 0.36)
    assert len(rate) == 9
    assert {r["day"] for r in tables["daily_failures"].to_pylist()} == {1}


def test_daily_failures_leave_out_empty_days(tmp_path):
    rows = [(0, "api", "X", 1, 0), (2 * DAY, "api", "X", 1, 4), (2 * DAY + 1, "api", "X", 1, 0)]
    trace = write_trace(tmp_path / "trace.parquet", rows)
    calendar = Calendar.of("2023-11-01", 3)
    cells = read_cells(trace, "failed", calendar=calendar)
    requests, failed = failures.by_day(cells, 3)
    table = failures.daily_table(requests, failed, cells)
    assert list(table["day"]) == [1, 3]
    assert list(table["rate"]) == [1.0, 0.5]
    assert (table["low"] < table["rate"]).all()


def test_failures_by_load_by_hand(tmp_path):
    """Four minutes of 1, 1, 2 and 6 requests of one cell; another cell adds 9 to the first minute."""
    minutes = [0, 1, 2, 2, *[3] * 6]
    answers = [0, 5, 0, 5, 0, 0, 0, 5, 5, 5]
    rows = [(60 * minute + 7, "api", "X", 1, answer) for minute, answer in zip(minutes, answers, strict=True)]
    rows += [(k, "conversation", "X", 1, 1) for k in range(9)]
    tables = verb("failures", write_trace(tmp_path / "trace.parquet", rows), tmp_path)
    table = [r for r in tables["failure_loads"].to_pylist() if (r["service"], r["model"]) == ("api", "X")]
    own = [r for r in table if r["load_of"] == "own"]
    assert [(r["load_low"], r["load_high"], r["minutes"], r["requests"], r["failed"]) for r in own] == [
        (1, 1, 2, 2, 1),
        (2, 2, 1, 2, 1),
        (6, 6, 1, 6, 3),
    ]
    assert (own[2]["low"], own[2]["high"]) == pytest.approx(stats.binomtest(3, 6).proportion_ci(method="wilson"))
    everything = [r for r in table if r["load_of"] == "all"]
    assert [(r["load_high"], r["requests"]) for r in everything] == [(1, 1), (2, 2), (6, 6), (10, 1)]


def test_parts_by_load_hold_a_fifth_each_where_loads_differ():
    rng = np.random.default_rng(4)
    minute = np.repeat(np.arange(20_000), rng.permutation(np.repeat(np.arange(1, 201), 100)))
    load = loads.loads(minute, minute)
    assert np.array_equal(load, np.unique(minute, return_counts=True)[1][minute])
    parts = loads.load_bins(minute, load)
    assert len(parts) == 5
    assert [len(part.rows) / len(minute) for part in parts] == pytest.approx([0.2] * 5, abs=0.01)
    assert np.array_equal(np.sort(np.concatenate([part.rows for part in parts])), np.arange(len(minute)))
    assert all(left.high < right.low for left, right in itertools.pairwise(parts))
    assert load[parts[1].rows].min() == parts[1].low
    assert loads.load_bins(minute[:0], load[:0]) == []
