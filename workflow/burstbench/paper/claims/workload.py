"""Claims 1 to 13: the workload. Each test is defined in its docstring, whose first sentence the scorecard prints."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from burstbench.paper.claims.evidence import (
    Finding,
    NoDataError,
    Number,
    Tables,
    apart,
    digits,
    p_value,
    sign_test,
    verdicts,
)
from burstbench.stats.intervals import Z95

DAY_S = 86_400
CELLS = tuple((service, model) for service in ("conversation", "api") for model in ("ChatGPT", "GPT-4"))


def request_count(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """Number of requests of a service and model, compared with the paper's.

    Args:
        tables: `daily_counts`.
        p: `service`, `model` ("all" sums), `expected`, `within` [requests].
    """
    counts = tables["daily_counts"]
    chosen = np.ones(len(counts), bool)
    for column in ("service", "model"):
        if p[column] != "all":
            chosen &= counts[column] == p[column]
    if not chosen.any():
        raise NoDataError(f"table daily_counts has no row with service {p['service']}, model {p['model']}")
    found = float(counts["requests"][chosen].sum())
    return _close(Number("", found, "requests"), p["expected"], p["within"])


def request_rate(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """Requests of a service and model divided by the seconds of the calendar, compared with the paper's rate.

    Args:
        tables: `daily_counts`.
        p: `service`, `model`, `expected`, `within` [1/s].
    """
    counts = tables["daily_counts"].where(service=p["service"], model=p["model"])
    found = float(counts["requests"].sum()) / (len(np.unique(counts["day"])) * DAY_S)
    return _close(Number("", found, "requests/s"), p["expected"], p["within"])


def _close(found: Number, expected: float, within: float) -> Finding:
    assert found.value is not None
    off = found.value - expected
    # A difference of whole units in the last printed digit is not exact in binary.
    holds = abs(off) <= within * (1 + 1e-9)
    return Finding((found,), holds, f"{digits(abs(off))} {'above' if off > 0 else 'below'}, {digits(within)} allowed")


def period(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """First and last day with a request, and the days between them, compared with the paper's period.

    Args:
        tables: `daily_counts`.
        p: `first`, `last` (ISO dates).
    """
    counts = tables["daily_counts"]
    dates = sorted(set(counts["date"][counts["requests"] > 0]))
    if not dates:
        raise NoDataError("table daily_counts holds no request")
    days = counts["day"][counts["requests"] > 0]
    numbers = (Number(f"{dates[0]} to {dates[-1]},", float(days.max() - days.min() + 1), "days"),)
    holds = (dates[0], dates[-1]) == (p["first"], p["last"])
    return Finding(numbers, holds, f"expected {p['first']} to {p['last']}")


def _periodicity(tables: Tables, service: str, model: str, statistic: str) -> tuple[Number, float | None]:
    row = tables["periodicity"].row(service=service, model=model, statistic=statistic)
    return Number(model, row["value"], "", row["low"], row["high"]), row["p_value"]


def workdays_above_weekends(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """Mean requests of a workday over those of a weekend day: above 1, and by a permutation test not by chance.

    Args:
        tables: `periodicity`, statistic `weekday_ratio`.
        p: `service`, `models` (each must hold), `p_value` (significant below).
    """
    numbers, cases = [], {}
    for model in p["models"]:
        number, chance = _periodicity(tables, p["service"], model, "weekday_ratio")
        numbers += [number, Number(f"{model} p", chance)]
        cases[model] = number.value is not None and number.value > 1 and chance is not None and chance < p["p_value"]
    return Finding(tuple(numbers), *verdicts(cases, "workdays lie above weekends"))


def no_weekly_pattern(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """No weekday effect by a permutation test, and a weak correlation of daily totals with those a week later.

    That a test finds no effect is no proof that there is none; the correlation bounds how strong it may be.

    Args:
        tables: `periodicity`, statistics `weekday_ratio` and `daily_autocorrelation_7d`.
        p: `service`, `models` (each must hold), `p_value` (no effect from here on), `below` (correlation).
    """
    numbers, cases = [], {}
    for model in p["models"]:
        ratio, chance = _periodicity(tables, p["service"], model, "weekday_ratio")
        weekly, _ = _periodicity(tables, p["service"], model, "daily_autocorrelation_7d")
        numbers += [
            Number(f"{model} workday/weekend", ratio.value, "", ratio.low, ratio.high),
            Number("p", chance),
            Number("7-day correlation", weekly.value, "", weekly.low, weekly.high),
        ]
        assert weekly.value is not None
        cases[model] = chance is not None and chance >= p["p_value"] and weekly.value < p["below"]
    return Finding(tuple(numbers), *verdicts(cases, "there is no weekly pattern"))


def repeats_daily(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """Correlation of hourly values with those 24 h and 168 h later: both at least as strong as the limit.

    Args:
        tables: `periodicity`, statistics `<quantity>autocorrelation_24h` and `_168h`.
        p: `service`, `models`, `quantities` ("" requests, "request_tokens_" ...), each must hold; `at_least`.
    """
    numbers, cases = _hourly_correlations(tables, p)
    holds = {name: all(value >= p["at_least"] for value in values) for name, values in cases.items()}
    return Finding(numbers, *verdicts(holds, f"the hours repeat after a day and a week (r >= {p['at_least']})"))


def irregular_hours(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """Correlation of hourly values with those 24 h and 168 h later: both weaker than the limit.

    Args:
        tables: `periodicity`, statistics `<quantity>autocorrelation_24h` and `_168h`.
        p: `service`, `models`, `quantities` ("" requests, "request_tokens_" ...), each must hold; `below`.
    """
    numbers, cases = _hourly_correlations(tables, p)
    holds = {name: all(value < p["below"] for value in values) for name, values in cases.items()}
    return Finding(numbers, *verdicts(holds, f"the hours do not repeat (r < {p['below']})"))


def _hourly_correlations(tables: Tables, p: Mapping[str, Any]) -> tuple[tuple[Number, ...], dict[str, list[float]]]:
    numbers, cases = [], {}
    for model in p["models"]:
        for quantity in p["quantities"]:
            name = f"{model} {quantity.rstrip('_').replace('_', ' ')}".strip()
            values = []
            for lag in ("24h", "168h"):
                found, _ = _periodicity(tables, p["service"], model, f"{quantity}autocorrelation_{lag}")
                numbers.append(Number(f"{name} {lag}", found.value, "", found.low, found.high))
                assert found.value is not None
                values.append(found.value)
            cases[name] = values
    return tuple(numbers), cases


def day_above_night(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """Mean requests of an hour at 9-17 h over those at 0-5 h: the interval lies above the limit.

    Args:
        tables: `periodicity`, statistic `day_night_ratio`.
        p: `service`, `models` (each must hold), `above`.
    """
    numbers, cases = [], {}
    for model in p["models"]:
        number, _ = _periodicity(tables, p["service"], model, "day_night_ratio")
        numbers.append(number)
        assert number.value is not None
        cases[model] = (number.value if number.low is None else number.low) > p["above"]
    return Finding(tuple(numbers), *verdicts(cases, f"working hours hold {p['above']} times the night's requests"))


def totals_spread_wider(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """Standard deviation over mean of the daily totals: one service's interval lies above the other's.

    Args:
        tables: `periodicity`, statistic `daily_cv`.
        p: `service` (wider), `than`, `models` (each must hold).
    """
    numbers, cases = [], {}
    for model in p["models"]:
        pair = [_periodicity(tables, service, model, "daily_cv")[0] for service in (p["than"], p["service"])]
        for service, number in zip((p["than"], p["service"]), pair, strict=True):
            numbers.append(Number(f"{model} {service}", number.value, "", number.low, number.high))
        cases[model] = apart(*pair)
    return Finding(tuple(numbers), *verdicts(cases, f"days of {p['service']} differ more than those of {p['than']}"))


def used_less(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """Requests of one model below those of the other in total, and on most days by a sign test.

    Args:
        tables: `daily_counts`.
        p: `service`, `model` (less), `than`, `p_value`.
    """
    counts = tables["daily_counts"]
    less, more = (counts.where(service=p["service"], model=model) for model in (p["model"], p["than"]))
    a, b = (table["requests"][np.argsort(table["day"])] for table in (less, more))
    fewer, above = int((a < b).sum()), int((a > b).sum())
    chance = sign_test(fewer, above)
    numbers = (
        Number(p["model"], float(a.sum()), "requests"),
        Number(p["than"], float(b.sum()), "requests"),
        Number("fewer on", 100 * fewer / max(fewer + above, 1), "% of days"),
    )
    holds = bool(a.sum() < b.sum() and fewer > above and chance < p["p_value"])
    return Finding(numbers, holds, f"sign test over {fewer + above} days: {p_value(chance)}")


def doublings(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """Mean times a day that requests at least double from one window to the next, under the definition of Fig. 5.

    The paper leaves the definition open. The verdict rests on one that was fixed beforehand (aligned windows; empty
    windows skipped; ChatGPT, both services; workdays); the range over all others is shown beside it.

    Args:
        tables: `doublings`.
        p: `width_s`, `expected` [1/d], `within` (relative), `definition` (columns of the table and their values).
    """
    table = tables["doublings"]
    row = table.row(width_s=p["width_s"], **p["definition"])
    number = Number("", row["per_day"], "a day", row["low"], row["high"])
    others = table.where(width_s=p["width_s"], model=p["definition"]["model"], day_type=p["definition"]["day_type"])[
        "per_day"
    ]
    fit = int((np.abs(others / p["expected"] - 1) <= p["within"]).sum())
    off = row["per_day"] / p["expected"] - 1
    reason = (
        f"{100 * off:+.0f} % of {p['expected']}, {100 * p['within']:.0f} % allowed; other definitions give "
        f"{digits(float(others.min()))} to {digits(float(others.max()))}, {fit} of {len(others)} lie within"
    )
    return Finding((number,), bool(abs(off) <= p["within"]), reason)


def family_wins(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """Share of 20-minute windows in which a family of gaps has the lowest AIC: larger than any other family's.

    Args:
        tables: `gamma_families`.
        p: `service`, `model`, `family`.
    """
    table = tables["gamma_families"].where(service=p["service"], model=p["model"])
    shares = dict(zip(table["family"], table["aic_best_share"].tolist(), strict=True))
    if p["family"] not in shares:
        raise NoDataError(f"table gamma_families has no family {p['family']}")
    ranked = sorted(shares, key=lambda family: (-shares[family], family))
    numbers = tuple(Number(family, 100 * shares[family], "%") for family in ranked)
    holds = all(shares[p["family"]] > share for family, share in shares.items() if family != p["family"])
    return Finding(numbers, holds, f"{ranked[0]} has the lowest AIC most often")


def family_fits(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """Share of 20-minute windows that a goodness-of-fit test at 5 % does not reject, given that it has power.

    If the family were true, 95 % of windows would pass. A test without power passes anything: then it cannot tell.

    Args:
        tables: `gamma_families`.
        p: `service`, `model`, `family`, `at_least` (share that passes), `power` (least power for a verdict).
    """
    row = tables["gamma_families"].row(service=p["service"], model=p["model"], family=p["family"])
    if row["test_pass_share"] is None or row["test_power"] is None:
        raise NoDataError(f"no goodness-of-fit test of {p['family']} was made")
    numbers = (
        Number("pass", 100 * row["test_pass_share"], f"% of {row['windows']} windows"),
        Number(f"power against {row['power_against']}", row["test_power"]),
    )
    if row["test_pass_share"] < p["at_least"]:
        return Finding(numbers, False, f"expected {100 * p['at_least']:.0f} % to pass")
    if row["test_power"] < p["power"]:
        return Finding(numbers, None, f"windows pass, but the power is below {p['power']}: the test cannot tell")
    return Finding(numbers, True, f"at least {100 * p['at_least']:.0f} % pass, with power")


def _daily_spread(tables: Tables, service: str, p: Mapping[str, Any]) -> dict[int, float]:
    """How far alpha moves within each workday beyond what the error of its fits explains.

    The spread of ln(alpha) between the windows of a day, less the variance of the fits (method of moments of
    DerSimonian & Laird 1986); windows within `hours` and with an interval; days with at least `windows` of them.

    Returns:
        Standard deviation of ln(alpha) by day.
    """
    table = tables["gamma_windows"].where(service=service, model=p["model"], estimator=p["estimator"])
    start = table["window_s"] / 3600
    alpha, low, high = table["alpha"], table["alpha_low"], table["alpha_high"]
    usable = (table["weekday"] <= 5) & (start >= p["hours"][0]) & (start < p["hours"][1])
    with np.errstate(invalid="ignore"):
        usable &= (alpha > 0) & (low > 0) & (high > low) & np.isfinite(high)
    logs = np.log(alpha, out=np.zeros_like(alpha), where=usable)
    ratio = np.divide(high, low, out=np.ones_like(high), where=usable)
    variance = (np.log(ratio) / (2 * Z95)) ** 2
    found = {}
    for day in np.unique(table["day"]):
        rows = usable & (table["day"] == day)
        if rows.sum() < p["windows"]:
            continue
        weight = 1 / variance[rows]
        mean = (weight * logs[rows]).sum() / weight.sum()
        excess = (weight * (logs[rows] - mean) ** 2).sum() - (rows.sum() - 1)
        scale = weight.sum() - (weight**2).sum() / weight.sum()
        found[int(day)] = math.sqrt(max(excess / scale, 0.0))
    if not found:
        raise NoDataError(f"no workday of {service} has {p['windows']} windows with a fit")
    return found


def alpha_moves(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """Factor between the 10th and the 90th percentile of alpha within a workday, fit error removed: median over days.

    With s the standard deviation of ln(alpha) between windows (see `_daily_spread`), the factor is exp(2 * 1.2816 * s).

    Args:
        tables: `gamma_windows`.
        p: `service`, `model`, `estimator`, `hours` (from, to), `windows` (least for a day), `factor`.
    """
    spread = _daily_spread(tables, p["service"], p)
    factor = math.exp(2 * 1.2815515655446004 * float(np.median(list(spread.values()))))
    number = Number("factor", factor, f"(median of {len(spread)} workdays)")
    return Finding((number,), factor >= p["factor"], f"a factor of at least {p['factor']} counts as sharp")


def alpha_steadier(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """Spread of ln(alpha) within a workday, fit error removed: smaller for one service on most days by a sign test.

    Args:
        tables: `gamma_windows`.
        p: as `alpha_moves`, with `than` (the other service) and `p_value` in place of `factor`.
    """
    steady, other = (_daily_spread(tables, service, p) for service in (p["service"], p["than"]))
    days = sorted(set(steady) & set(other))
    below = sum(steady[day] < other[day] for day in days)
    above = sum(steady[day] > other[day] for day in days)
    if not below + above:
        raise NoDataError(f"no workday has fits of both {p['service']} and {p['than']}")
    chance = sign_test(below, above)
    numbers = (
        Number(p["service"], float(np.median(list(steady.values())))),
        Number(p["than"], float(np.median(list(other.values())))),
        Number("steadier on", 100 * below / (below + above), f"% of {below + above} workdays"),
    )
    return Finding(numbers, below > above and chance < p["p_value"], f"sign test: {p_value(chance)}")


def zipf_unbeaten(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """Log-likelihood of other families minus Zipf's, same truncated support: none is significantly above 0.

    Args:
        tables: `length_fits` (or the one named by `table`).
        p: `source`, `quantity`, `p_value`, `table`.
    """
    table = tables[p["table"]].where(source=p["source"], quantity=p["quantity"])
    ratios = dict(zip(table["family"], zip(table["ratio"], table["p_value"], table["ks"], strict=True), strict=True))
    if "zipf" not in ratios or len(ratios) < 2:
        raise NoDataError(f"table {p['table']} has no Zipf fit to compare")
    zipf = tables[p["table"]].row(source=p["source"], quantity=p["quantity"], family="zipf")
    others = {name: found for name, found in sorted(ratios.items()) if name != "zipf"}
    numbers = [Number("Zipf KS distance", zipf["ks"])]
    numbers += [Number(f"{name} minus zipf", ratio, "nats") for name, (ratio, _, _) in others.items()]
    better = [name for name, (ratio, chance, _) in others.items() if ratio > 0 and chance < p["p_value"]]
    if better:
        best = max(better, key=lambda name: others[name][0])
        return Finding(tuple(numbers), False, f"{', '.join(better)} fit better (p < {p['p_value']}), {best} best")
    return Finding(tuple(numbers), True, "no other family fits better")


def _statistic(tables: Tables, p: Mapping[str, Any], statistic: str, label: str = "", unit: str = "") -> Number:
    row = tables[p["table"]].row(source=p["source"], statistic=statistic)
    return Number(label, row["value"], unit, row["low"], row["high"])


def two_modes(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """Hartigan's dip test of the response lengths rejects one mode.

    The dip of the logarithms is shown beside it: two modes may show on one axis only.

    Args:
        tables: `length_tests` (or the one named by `table`), statistics `response_dip`, `response_log_dip`.
        p: `source`, `p_value`, `table`.
    """
    row = tables[p["table"]].row(source=p["source"], statistic="response_dip")
    numbers = [Number("dip", row["value"]), Number("p", row["p_value"])]
    try:
        logs = tables[p["table"]].row(source=p["source"], statistic="response_log_dip")
        numbers += [Number("on a log axis dip", logs["value"]), Number("p", logs["p_value"])]
    except NoDataError:
        pass
    rejected = row["p_value"] is not None and row["p_value"] < p["p_value"]
    return Finding(tuple(numbers), rejected, "one mode is rejected" if rejected else "one mode is not rejected")


def lean_to_long(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """Share of responses of at least 90 % of the longest: above a uniform spread's 10 %; median above half the longest.

    Args:
        tables: `length_tests` (or the one named by `table`), statistics `share_near_limit`, `response_median`,
            `response_max`.
        p: `source`, `share`, `table`.
    """
    near = _statistic(tables, p, "share_near_limit")
    middle, longest = _statistic(tables, p, "response_median"), _statistic(tables, p, "response_max")
    assert near.value is not None
    assert middle.value is not None
    assert longest.value is not None
    low, high = (None if end is None else 100 * end for end in (near.low, near.high))
    numbers = (
        Number("near the limit", 100 * near.value, "%", low, high),
        Number("median", middle.value, "tokens"),
        Number("longest", longest.value, "tokens"),
    )
    cases = {
        "share near the limit": (near.value if near.low is None else near.low) > p["share"],
        "median": middle.value > longest.value / 2,
    }
    return Finding(numbers, *verdicts(cases, "responses lean to long ones"))


def grows_linearly(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """Slope of response on request tokens above 0, and a straight line explains the means of the bins.

    The line through the bins' means is weighted by their requests; R² is the share of the means' weighted variance
    that it explains.

    Args:
        tables: `length_tests`, `response_by_request` (or those named by `table`, `bins`).
        p: `source`, `r2` (least R²), `table`, `bins`.
    """
    slope = _statistic(tables, p, "slope", "slope")
    bins = tables[p["bins"]].where(source=p["source"])
    x, y, weight = (bins["request_low"] + bins["request_high"]) / 2, bins["response_mean"], bins["n"]
    mean_x, mean_y = np.average(x, weights=weight), np.average(y, weights=weight)
    spread = float((weight * (x - mean_x) ** 2).sum() * (weight * (y - mean_y) ** 2).sum())
    if spread == 0:
        raise NoDataError(f"table {p['bins']} has no two bins that differ for {p['source']}")
    r2 = float((weight * (x - mean_x) * (y - mean_y)).sum() ** 2 / spread)
    assert slope.value is not None
    cases = {"slope": (slope.value if slope.low is None else slope.low) > 0, "straight line": r2 >= p["r2"]}
    return Finding((slope, Number("R² of the bins' means", r2)), *verdicts(cases, "responses grow linearly"))


def shrinks(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """Slope of response on request tokens: its interval lies below 0.

    Args:
        tables: `length_tests` (or the one named by `table`), statistic `slope`.
        p: `source`, `table`.
    """
    slope = _statistic(tables, p, "slope", "slope")
    assert slope.value is not None
    below = (slope.value if slope.high is None else slope.high) < 0
    return Finding((slope,), below, "the interval lies below 0" if below else "the interval does not lie below 0")


def answers_shorter(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """Mean response tokens: one source's interval lies below the other's.

    Args:
        tables: `length_tests` and the one named by `than_table`, statistic `response_mean`.
        p: `source`, `table` (shorter), `than`, `than_table`.
    """
    one = _statistic(tables, p, "response_mean", p["source"], "tokens")
    other = _statistic(tables, {"table": p["than_table"], "source": p["than"]}, "response_mean", p["than"], "tokens")
    holds = apart(one, other)
    return Finding((one, other), holds, "the intervals lie apart" if holds else "not below, or the intervals overlap")


def wider_at_peaks(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """Interquartile range over median of a model's tokens per hour over the days, at its busiest hours: larger.

    The busiest hours of a model are the `hours` hours of day with the largest medians; the spread is their mean.

    Args:
        tables: `hourly_counts`.
        p: `service`, `model` (wider), `than`, `hours`, `quantities` (columns of tokens, each must hold).
    """
    numbers, cases = [], {}
    for quantity in p["quantities"]:
        spreads = []
        for model in (p["than"], p["model"]):
            table = tables["hourly_counts"].where(service=p["service"], model=model)
            order = np.lexsort((table["hour"], table["day"]))
            values = table[quantity][order].reshape(-1, 24)
            q1, middle, q3 = np.percentile(values, [25, 50, 75], axis=0)
            peak = np.argsort(-middle, kind="stable")[: p["hours"]]
            if (middle[peak] == 0).any():
                raise NoDataError(f"{model} has no {p['hours']} hours of day with tokens on most days")
            spreads.append(float(((q3 - q1)[peak] / middle[peak]).mean()))
            numbers.append(Number(f"{model} {quantity.replace('_', ' ')}", spreads[-1]))
        cases[quantity.replace("_", " ")] = spreads[1] > spreads[0]
    return Finding(tuple(numbers), *verdicts(cases, f"{p['model']} spreads wider at its peaks than {p['than']}"))


def fails_more(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """Failure rate of one group above the other's, by a two-sided test of two proportions.

    Args:
        tables: `failures`.
        p: `more`, `less` (each `service` and `model`, or "all"), `p_value`.
    """
    rows = [tables["failures"].row(**p[side]) for side in ("more", "less")]
    numbers = tuple(_rate(row) for row in rows)
    requests = [row["requests"] for row in rows]
    pooled = sum(row["failed"] for row in rows) / sum(requests)
    error = math.sqrt(pooled * (1 - pooled) * sum(1 / n for n in requests))
    difference = rows[0]["rate"] - rows[1]["rate"]
    chance = math.erfc(abs(difference) / error / math.sqrt(2)) if error > 0 else 1.0
    holds = difference > 0 and chance < p["p_value"]
    sign = "more" if difference > 0 else "less"
    return Finding(numbers, bool(holds), f"the first fails {sign}, {p_value(chance)}")


def fails_above(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """Failure rate of a group: its Wilson interval lies above the limit.

    Args:
        tables: `failures`.
        p: `service`, `model`, `above`.
    """
    row = tables["failures"].row(service=p["service"], model=p["model"])
    return Finding((_rate(row),), row["low"] > p["above"], f"above {100 * p['above']:.3g} % is claimed")


def _rate(row: Mapping[str, Any]) -> Number:
    name = f"{row['model']} {row['service']}".replace("all all", "all")
    return Number(name, 100 * row["rate"], "%", 100 * row["low"], 100 * row["high"])


TESTS = {
    test.__name__: test
    for test in (
        request_count,
        request_rate,
        period,
        workdays_above_weekends,
        no_weekly_pattern,
        repeats_daily,
        irregular_hours,
        day_above_night,
        totals_spread_wider,
        used_less,
        doublings,
        family_wins,
        family_fits,
        alpha_moves,
        alpha_steadier,
        zipf_unbeaten,
        two_modes,
        lean_to_long,
        grows_linearly,
        shrinks,
        answers_shorter,
        wider_at_peaks,
        fails_more,
        fails_above,
    )
}
