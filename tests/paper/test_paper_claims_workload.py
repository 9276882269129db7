"""Claims 1-13: each test says yes on data made so that it must, and no on data made so that it must not."""

import math

import numpy as np
import pytest
from burstbench.paper.claims import workload
from burstbench.paper.claims.evidence import NoDataError, sign_test
from claims_data import study
from scipy import stats

BOTH = ["ChatGPT", "GPT-4"]


def day_rows(counts, service="conversation", model="ChatGPT"):
    return [
        {"day": day, "date": f"2023-11-{day:02}", "service": service, "model": model, "requests": n}
        for day, n in enumerate(counts, 1)
    ]


def test_request_count(tmp_path):
    tables = study(tmp_path, daily_counts=day_rows([60, 39]) + day_rows([1, 2], "api", "GPT-4"))
    p = {"service": "conversation", "model": "ChatGPT", "expected": 100, "within": 1}
    assert workload.request_count(tables, p).holds is True
    assert workload.request_count(tables, p | {"expected": 101}).holds is False
    everything = workload.request_count(tables, p | {"service": "all", "model": "all", "expected": 102, "within": 0})
    assert everything.holds is True
    assert everything.measured == "102 requests"
    with pytest.raises(NoDataError, match="no row with service api, model ChatGPT"):
        workload.request_count(tables, p | {"service": "api"})


def test_request_rate(tmp_path):
    tables = study(tmp_path, daily_counts=day_rows([1728, 1728]))  # 0.02 a second
    p = {"service": "conversation", "model": "ChatGPT", "expected": 0.019, "within": 0.001}
    assert workload.request_rate(tables, p).holds is True
    assert workload.request_rate(tables, p | {"within": 0.0009}).holds is False


def test_period(tmp_path):
    tables = study(tmp_path, daily_counts=day_rows([0, 5, 0, 7, 0]))
    assert workload.period(tables, {"first": "2023-11-02", "last": "2023-11-04"}).holds is True
    found = workload.period(tables, {"first": "2023-11-01", "last": "2023-11-04"})
    assert found.holds is False
    assert found.measured == "2023-11-02 to 2023-11-04, 3 days"


def periodic(**statistics):
    """Rows for both models; a statistic is a value, or (value, low, high, p)."""
    rows = []
    for key, value in statistics.items():
        service, _, statistic = key.partition("__")
        for model in BOTH:
            value_, low, high, p = value if isinstance(value, tuple) else (value, None, None, None)
            rows.append(
                {"service": service, "model": model, "statistic": statistic, "value": value_, "low": low, "high": high}
                | {"p_value": p}
            )
    return rows


@pytest.mark.parametrize(
    ("ratio", "p_value", "holds"), [(1.5, 0.001, True), (1.5, 0.2, False), (0.6, 0.001, False), (1.5, None, False)]
)
def test_workdays_above_weekends(tmp_path, ratio, p_value, holds):
    tables = study(tmp_path, periodicity=periodic(conversation__weekday_ratio=(ratio, 1.1, 2.0, p_value)))
    p = {"service": "conversation", "models": BOTH, "p_value": 0.05}
    assert workload.workdays_above_weekends(tables, p).holds is holds


def test_a_claim_about_both_models_fails_with_one(tmp_path):
    rows = periodic(conversation__weekday_ratio=(1.5, 1.1, 2.0, 0.001))
    rows[1]["p_value"] = 0.5
    found = workload.workdays_above_weekends(
        study(tmp_path, periodicity=rows), {"service": "conversation", "models": BOTH, "p_value": 0.05}
    )
    assert found.holds is False
    assert "GPT-4" in found.reason
    assert "1 of 2" in found.reason


@pytest.mark.parametrize(("p_value", "weekly", "holds"), [(0.4, 0.1, True), (0.01, 0.1, False), (0.4, 0.7, False)])
def test_no_weekly_pattern(tmp_path, p_value, weekly, holds):
    tables = study(
        tmp_path,
        periodicity=periodic(
            api__weekday_ratio=(1.1, 0.5, 2.0, p_value), api__daily_autocorrelation_7d=(weekly, 0.0, 0.9, None)
        ),
    )
    p = {"service": "api", "models": BOTH, "p_value": 0.05, "below": 0.5}
    assert workload.no_weekly_pattern(tables, p).holds is holds


@pytest.mark.parametrize(
    ("day", "week", "repeats", "irregular"),
    [(0.8, 0.7, True, False), (0.8, 0.3, False, False), (0.1, 0.2, False, True)],
)
def test_hours_that_repeat_and_hours_that_do_not(tmp_path, day, week, repeats, irregular):
    tables = study(
        tmp_path,
        periodicity=periodic(
            api__request_tokens_autocorrelation_24h=day, api__request_tokens_autocorrelation_168h=week
        ),
    )
    p = {"service": "api", "models": BOTH, "quantities": ["request_tokens_"]}
    assert workload.repeats_daily(tables, p | {"at_least": 0.5}).holds is repeats
    assert workload.irregular_hours(tables, p | {"below": 0.5}).holds is irregular


def test_day_above_night(tmp_path):
    p = {"service": "conversation", "models": BOTH, "above": 2}
    yes = study(tmp_path, periodicity=periodic(conversation__day_night_ratio=(4.0, 3.0, 5.0, None)))
    assert workload.day_above_night(yes, p).holds is True
    no = study(tmp_path, periodicity=periodic(conversation__day_night_ratio=(4.0, 1.5, 9.0, None)))
    assert workload.day_above_night(no, p).holds is False


def test_totals_spread_wider(tmp_path):
    p = {"service": "api", "than": "conversation", "models": BOTH}
    apart = periodic(api__daily_cv=(1.2, 0.9, 1.5, None), conversation__daily_cv=(0.4, 0.3, 0.5, None))
    assert workload.totals_spread_wider(study(tmp_path, periodicity=apart), p).holds is True
    overlapping = periodic(api__daily_cv=(0.6, 0.4, 0.8, None), conversation__daily_cv=(0.4, 0.3, 0.5, None))
    assert workload.totals_spread_wider(study(tmp_path, periodicity=overlapping), p).holds is False


def test_used_less(tmp_path):
    p = {"service": "conversation", "model": "GPT-4", "than": "ChatGPT", "p_value": 0.05}
    more = day_rows([10] * 10)
    yes = study(tmp_path, daily_counts=more + day_rows([5] * 9 + [11], model="GPT-4"))
    assert workload.used_less(yes, p).holds is True
    # Less in total, but on as many days as not.
    no = study(tmp_path, daily_counts=more + day_rows([1, 11] * 5, model="GPT-4"))
    assert workload.used_less(no, p).holds is False


def test_the_sign_test_is_the_binomial_one():
    for fewer, more in ((9, 1), (3, 4), (0, 12), (30, 31)):
        expected = stats.binomtest(fewer, fewer + more).pvalue
        assert sign_test(fewer, more) == pytest.approx(expected)


def doubling_rows(*per_day):
    base = {"width_s": 300, "model": "ChatGPT", "day_type": "workday"}
    kinds = [("aligned", "skip", "all"), ("aligned", "count", "all"), ("sliding", "skip", "all")]
    return [
        base | {"alignment": a, "zero_rule": z, "service": s, "per_day": value, "low": value, "high": value}
        for (a, z, s), value in zip(kinds, per_day, strict=True)
    ] + [base | {"day_type": "all", "per_day": 1000.0, "low": 1.0, "high": 1.0, "service": "all"}]


def test_doublings(tmp_path):
    definition = {
        "alignment": "aligned",
        "zero_rule": "skip",
        "service": "all",
        "model": "ChatGPT",
        "day_type": "workday",
    }
    p = {"width_s": 300, "expected": 65, "within": 0.2, "definition": definition}
    found = workload.doublings(study(tmp_path, doublings=doubling_rows(70.0, 90.0, 100.0)), p)
    assert found.holds is True
    assert "70 to 100, 1 of 3" in found.reason
    # Another definition that fits does not save the one fixed beforehand.
    found = workload.doublings(study(tmp_path, doublings=doubling_rows(90.0, 65.0, 100.0)), p)
    assert found.holds is False
    assert "1 of 3 lie within" in found.reason


def family_rows(shares, **tests):
    base = {"service": "conversation", "model": "ChatGPT", "windows": 50}
    return [base | {"family": family, "aic_best_share": share} | tests for family, share in shares.items()]


def test_family_wins(tmp_path):
    p = {"service": "conversation", "model": "ChatGPT", "family": "gamma"}
    for shares, holds in (
        ({"weibull": 0.3, "gamma": 0.6, "lognormal": 0.1}, True),
        ({"weibull": 0.5, "gamma": 0.4, "lognormal": 0.1}, False),
        ({"weibull": 0.5, "gamma": 0.5}, False),
    ):
        assert workload.family_wins(study(tmp_path, gamma_families=family_rows(shares)), p).holds is holds


@pytest.mark.parametrize(
    ("passing", "power", "holds"), [(0.95, 0.8, True), (0.95, 0.1, None), (0.6, 0.8, False), (0.6, 0.1, False)]
)
def test_family_fits_needs_a_test_with_power(tmp_path, passing, power, holds):
    rows = family_rows({"gamma": 1.0}, test_pass_share=passing, test_power=power, power_against="lognormal")
    p = {"service": "conversation", "model": "ChatGPT", "family": "gamma", "at_least": 0.9, "power": 0.5}
    assert workload.family_fits(study(tmp_path, gamma_families=rows), p).holds is holds


def test_family_fits_without_a_test_is_not_testable(tmp_path):
    p = {"service": "conversation", "model": "ChatGPT", "family": "gamma", "at_least": 0.9, "power": 0.5}
    with pytest.raises(NoDataError, match="no goodness-of-fit test"):
        workload.family_fits(study(tmp_path, gamma_families=family_rows({"gamma": 1.0})), p)


WINDOWS = {
    "service": "conversation", "than": "api", "model": "ChatGPT", "estimator": "seconds", "hours": [8, 22],
    "windows": 5, "factor": 2, "p_value": 0.05,
}  # fmt: skip


def alpha_rows(rng, spread, error, service="conversation", days=20):
    """Windows whose ln(alpha) spreads by `spread`, seen with a standard error of `error`."""
    rows = []
    for day in range(1, days + 1):
        for hour in range(24):
            log = rng.normal(0, spread) + rng.normal(0, error)
            rows.append(
                {
                    "service": service, "model": "ChatGPT", "estimator": "seconds", "day": day, "weekday": day % 5 + 1,
                    "window_s": 3600.0 * hour, "alpha": math.exp(log), "alpha_low": math.exp(log - 1.96 * error),
                    "alpha_high": math.exp(log + 1.96 * error),
                }
            )  # fmt: skip
    return rows


def test_alpha_moves_beyond_the_error_of_its_fits(tmp_path):
    rng = np.random.default_rng(3)
    moving = workload.alpha_moves(study(tmp_path, gamma_windows=alpha_rows(rng, 0.5, 0.2)), WINDOWS)
    assert moving.holds is True
    assert moving.numbers[0].value == pytest.approx(math.exp(2 * 1.2816 * 0.5), rel=0.15)
    # The estimates scatter as much, but all of it is error.
    still = workload.alpha_moves(study(tmp_path, gamma_windows=alpha_rows(rng, 0.0, 0.54)), WINDOWS)
    assert still.holds is False
    assert still.numbers[0].value < 1.6


def test_alpha_moves_looks_at_active_hours_of_workdays_only(tmp_path):
    rows = alpha_rows(np.random.default_rng(3), 0.0, 0.2)
    for row in rows:
        if row["window_s"] < 8 * 3600 or row["weekday"] > 5:
            row["alpha"] *= 50
    assert workload.alpha_moves(study(tmp_path, gamma_windows=rows), WINDOWS).holds is False
    few = [row | {"alpha_low": None} if row["window_s"] >= 12 * 3600 else row for row in rows]
    with pytest.raises(NoDataError, match="5 windows"):
        workload.alpha_moves(study(tmp_path, gamma_windows=few), WINDOWS)


def test_alpha_steadier(tmp_path):
    rng = np.random.default_rng(4)
    for api, holds in ((0.6, True), (0.2, False), (0.05, False)):
        rows = alpha_rows(rng, 0.2, 0.1) + alpha_rows(rng, api, 0.1, "api")
        found = workload.alpha_steadier(study(tmp_path, gamma_windows=rows), WINDOWS)
        assert found.holds is holds, found


def fit_rows(**families):
    """Rows of length fits: ratio and p-value by family."""
    base = {"source": "trace x", "quantity": "request", "n": 100}
    return [
        base | {"family": family, "ratio": ratio, "p_value": p, "ks": 0.1} for family, (ratio, p) in families.items()
    ]


def test_zipf_unbeaten(tmp_path):
    p = {"table": "length_fits", "source": "trace x", "quantity": "request", "p_value": 0.05}
    zipf = (0.0, None)
    for others, holds in (
        ({"lognormal": (-50.0, 0.001), "exponential": (3.0, 0.4)}, True),
        ({"lognormal": (50.0, 0.001), "exponential": (-3.0, 0.4)}, False),
        ({"lognormal": (-50.0, 0.001), "powerlaw_cutoff": (20.0, 1e-9)}, False),
    ):
        assert workload.zipf_unbeaten(study(tmp_path, length_fits=fit_rows(zipf=zipf, **others)), p).holds is holds
    with pytest.raises(NoDataError, match="no Zipf fit"):
        workload.zipf_unbeaten(study(tmp_path, length_fits=fit_rows(lognormal=(1.0, 0.1))), p)


def length_rows(source="trace x", **statistics):
    rows = []
    for statistic, value in statistics.items():
        value_, low, high, p = value if isinstance(value, tuple) else (value, None, None, None)
        rows.append({"source": source, "statistic": statistic, "value": value_, "low": low, "high": high, "p_value": p})
    return rows


def test_two_modes(tmp_path):
    p = {"table": "length_tests", "source": "trace x", "p_value": 0.05}
    for chance, holds in ((0.001, True), (0.3, False)):
        rows = length_rows(response_dip=(0.02, None, None, chance), response_log_dip=(0.1, None, None, 0.0))
        assert workload.two_modes(study(tmp_path, length_tests=rows), p).holds is holds


def test_two_modes_on_samples_that_have_two_and_one(tmp_path):
    """The whole way from lengths to the verdict."""
    from burstbench.stats.lengths import length_tables

    rng = np.random.default_rng(5)
    settings = {"request_bin_tokens": 20, "response_bin_tokens": 25, "coarse_request_bins": [1, 100, 1000]}
    request = rng.integers(1, 500, 2000)
    one = rng.normal(400, 60, 2000).astype(int)
    two = np.where(rng.random(2000) < 0.5, one, one + 600)
    for response, holds in ((two, True), (one, False)):
        made = length_tables("trace x", request, response, settings, np.random.default_rng(1))
        tables = study(tmp_path, length_tests=made["length_tests"].to_pylist())
        p = {"table": "length_tests", "source": "trace x", "p_value": 0.05}
        assert workload.two_modes(tables, p).holds is holds


def test_lean_to_long(tmp_path):
    p = {"table": "responses_length_tests", "source": "run x", "share": 0.1}
    for near, median, holds in (((0.4, 0.35, 0.45, None), 900.0, True), ((0.12, 0.09, 0.15, None), 900.0, False),
                                ((0.4, 0.35, 0.45, None), 300.0, False)):  # fmt: skip
        rows = length_rows("run x", share_near_limit=near, response_median=median, response_max=1024.0)
        assert workload.lean_to_long(study(tmp_path, responses_length_tests=rows), p).holds is holds


def bins(means):
    return [
        {"source": "trace x", "request_low": 20.0 * k, "request_high": 20.0 * k + 20, "response_mean": mean, "n": 10}
        for k, mean in enumerate(means)
    ]


def test_grows_linearly(tmp_path):
    p = {"table": "length_tests", "bins": "response_by_request", "source": "trace x", "r2": 0.8}
    straight = bins([100.0, 121.0, 139.0, 160.0])
    bent = bins([100.0, 300.0, 310.0, 100.0])
    rising = length_rows(slope=(0.5, 0.4, 0.6, 0.0))
    for rows, points, holds in (
        (rising, straight, True),
        (rising, bent, False),
        (length_rows(slope=(0.1, -0.1, 0.3, 0.3)), straight, False),
    ):
        tables = study(tmp_path, length_tests=rows, response_by_request=points)
        assert workload.grows_linearly(tables, p).holds is holds


def test_grows_linearly_finds_the_share_that_a_weighted_line_explains(tmp_path):
    points = bins([100.0, 140.0, 120.0, 180.0])
    for n, row in zip((5, 1, 8, 3), points, strict=True):
        row["n"] = n
    tables = study(tmp_path, length_tests=length_rows(slope=(1.0, 0.5, 1.5, 0.0)), response_by_request=points)
    found = workload.grows_linearly(
        tables, {"table": "length_tests", "bins": "response_by_request", "source": "trace x", "r2": 0.8}
    )
    x = np.repeat([10, 30, 50, 70], (5, 1, 8, 3))
    y = np.repeat([100, 140, 120, 180], (5, 1, 8, 3))
    assert found.numbers[1].value == pytest.approx(stats.linregress(x, y).rvalue ** 2)


def test_shrinks(tmp_path):
    p = {"table": "responses_length_tests", "source": "run x"}
    for slope, holds in (((-0.5, -0.6, -0.4, 0.0), True), ((-0.1, -0.3, 0.1, 0.3), False), ((0.5, 0.4, 0.6, 0), False)):
        tables = study(tmp_path, responses_length_tests=length_rows("run x", slope=slope))
        assert workload.shrinks(tables, p).holds is holds


def test_answers_shorter(tmp_path):
    p = {"source": "trace x", "table": "length_tests", "than": "run x", "than_table": "responses_length_tests"}
    for other, holds in (((600.0, 580.0, 620.0, None), True), ((105.0, 95.0, 115.0, None), False), (50.0, False)):
        tables = study(
            tmp_path,
            length_tests=length_rows(response_mean=(100.0, 90.0, 110.0, None)),
            responses_length_tests=length_rows("run x", response_mean=other),
        )
        assert workload.answers_shorter(tables, p).holds is holds


def test_wider_at_peaks(tmp_path):
    p = {"service": "conversation", "model": "GPT-4", "than": "ChatGPT", "hours": 2, "quantities": ["request_tokens"]}

    def hours(model, spread):
        return [
            {"day": day, "hour": hour, "service": "conversation", "model": model,
             "request_tokens": int(1000 * (1 + spread * (day - 3))) if hour in (10, 11) else 10 * day}
            for day in range(1, 6) for hour in range(24)
        ]  # fmt: skip

    yes = study(tmp_path, hourly_counts=hours("ChatGPT", 0.05) + hours("GPT-4", 0.2))
    found = workload.wider_at_peaks(yes, p)
    assert found.holds is True
    # Values 900, 950, 1000, 1050, 1100: quartiles 950 and 1050 about 1000.
    assert [number.value for number in found.numbers] == pytest.approx([0.1, 0.4])
    no = study(tmp_path, hourly_counts=hours("ChatGPT", 0.2) + hours("GPT-4", 0.05))
    assert workload.wider_at_peaks(no, p).holds is False


def failure_rows(**groups):
    return [
        {"service": key.split("__")[0], "model": key.split("__")[1].replace("GPT4", "GPT-4"), "requests": n,
         "failed": failed, "rate": failed / n, "low": failed / n * 0.9, "high": min(failed / n * 1.1, 1.0)}
        for key, (failed, n) in groups.items()
    ]  # fmt: skip


def test_fails_more_turns_round_when_pooled(tmp_path):
    """Simpson's paradox, as in the trace: the order in each service, and the other order pooled."""
    tables = study(
        tmp_path,
        failures=failure_rows(
            conversation__ChatGPT=(600, 10_000),
            conversation__GPT4=(2_500, 50_000),
            api__ChatGPT=(1_400, 100_000),
            api__GPT4=(10, 1_000),
            all__ChatGPT=(2_000, 110_000),
            all__GPT4=(2_510, 51_000),
        ),
    )

    def more(service):
        sides = ({"service": service, "model": model} for model in BOTH)
        return workload.fails_more(tables, dict(zip(("more", "less"), sides, strict=True)) | {"p_value": 0.05})

    assert more("conversation").holds is True
    assert more("api").holds is False  # 1.4 % against 1.0 % of 1,000: may be chance
    assert more("all").holds is False
    assert "fails less" in more("all").reason


def test_fails_more_is_the_chi_square_test(tmp_path):
    tables = study(tmp_path, failures=failure_rows(api__ChatGPT=(60, 1000), api__GPT4=(45, 1100)))
    p = {"more": {"service": "api", "model": "ChatGPT"}, "less": {"service": "api", "model": "GPT-4"}}
    expected = stats.chi2_contingency([[60, 940], [45, 1055]], correction=False).pvalue
    assert workload.fails_more(tables, p | {"p_value": expected * 1.001}).holds is True
    assert workload.fails_more(tables, p | {"p_value": expected * 0.999}).holds is False


def test_fails_above(tmp_path):
    p = {"service": "conversation", "model": "ChatGPT", "above": 0.05}
    for failed, holds in ((60, True), (52, False), (40, False)):
        tables = study(tmp_path, failures=failure_rows(conversation__ChatGPT=(failed, 1000)))
        assert workload.fails_above(tables, p).holds is holds


def test_a_missing_row_says_which(tmp_path):
    tables = study(tmp_path, periodicity=periodic(api__weekday_ratio=(1.0, 1.0, 1.0, 1.0)))
    with pytest.raises(NoDataError, match="periodicity has no row with service conversation, model ChatGPT"):
        workload.workdays_above_weekends(tables, {"service": "conversation", "models": BOTH, "p_value": 0.05})


def test_every_test_of_the_room_is_tested_here():
    from pathlib import Path

    text = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in workload.TESTS if f"workload.{name}(" not in text] == []
