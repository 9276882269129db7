"""Claims 14 to 19: the served models. Each test is defined in its docstring, whose first sentence the scorecard prints.

A *case* is one model on one GPU; a claim must hold for every case of the study. Numbers are means over the seeds, with
the bootstrap interval over the seeds where there are several.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from burstbench.paper.claims.evidence import Finding, NoDataError, Number, Table, Tables, apart, digits, verdicts

Case = tuple[str, str]

VARIATION, MIRRORED = "variation", "mirrored"
WHOLE_PHASE = -1
"""The step that stands for a whole phase in a summary."""


def cases_of(table: Table) -> list[Case]:
    """Model and GPU of every case of a table, sorted.

    Raises:
        NoDataError: the table has no rows.
    """
    found = sorted(set(zip(table["model"], table["gpu"], strict=True)))
    if not found:
        raise NoDataError(f"table {table.name} is empty")
    return found


def name_of(case: Case) -> str:
    """For example `llama-2-7b-chat a800`."""
    return " ".join(case)


def whole_phase(table: Table, case: Case, phase: str, metric: str, unit: str = "", factor: float = 1) -> Number:
    """One metric of a whole phase of a summary, times `factor`.

    Raises:
        NoDataError: it is not there, or nothing was measured.
    """
    row = table.row(model=case[0], gpu=case[1], phase=phase, step=WHOLE_PHASE, metric=metric)
    if row["mean"] is None:
        raise NoDataError(f"{metric} of {name_of(case)} was not measured")
    low, high = (None if row[end] is None else factor * row[end] for end in ("low", "high"))
    return Number(name_of(case), factor * row["mean"], unit, low, high)


def series(table: Table, case: Case, metric: str) -> np.ndarray:
    """Means of a metric over the steps of the variation, in their order; NaN where nothing was measured.

    Raises:
        NoDataError: the metric is not there, or the variation has fewer than five steps.
    """
    rows = table.where(model=case[0], gpu=case[1], phase=VARIATION, metric=metric)
    steps = rows["step"]
    values = rows["mean"][np.argsort(steps)][np.sort(steps) != WHOLE_PHASE]
    if len(values) < 5:
        raise NoDataError(f"the variation of {name_of(case)} has {len(values)} steps, at least 5 are needed")
    return values


def ends_and_peak(values: np.ndarray) -> tuple[float, float, float]:
    """Start (mean of the first two steps), peak (largest of the steps between) and end (mean of the last two).

    Raises:
        NoDataError: nothing was measured at one of them.
    """
    inner = values[2:-2][~np.isnan(values[2:-2])]
    start, end = float(np.mean(values[:2])), float(np.mean(values[-2:]))
    if not inner.size or np.isnan(start) or np.isnan(end):
        raise NoDataError("a step of the variation has no value to measure")
    return start, float(inner.max()), end


def kv_in_band(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """Time-weighted mean use of the KV cache over the warm-up at Table III's parameters: inside the narrow band.

    Args:
        tables: `warmup_summary`.
        p: `model`, `gpu`, `band` (the verdict), `wide` (said beside it): shares of the cache.
    """
    table, case = tables["warmup_summary"], (p["model"], p["gpu"])
    numbers = (
        whole_phase(table, case, "warmup", "kv_usage_mean", "%", 100),
        Number("p10", whole_phase(table, case, "warmup", "kv_usage_p10", "%", 100).value, "%"),
        Number("p90", whole_phase(table, case, "warmup", "kv_usage_p90", "%", 100).value, "%"),
    )
    mean = numbers[0].value
    assert mean is not None
    inside = 100 * p["band"][0] <= mean <= 100 * p["band"][1]
    wide = "inside" if 100 * p["wide"][0] <= mean <= 100 * p["wide"][1] else "outside"
    reason = f"{'inside' if inside else 'outside'} {_band(p['band'])}, {wide} {_band(p['wide'])}"
    return Finding(numbers, inside, reason)


def _band(band: tuple[float, float]) -> str:
    return f"{100 * band[0]:.0f}-{100 * band[1]:.0f} %"


def beta_above(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """Mean over time of the planned beta (scale) of the mirrored stream: one stream's above the other's.

    Args:
        tables: `mirror_conversation_timeline`, `mirror_api_timeline`.
        p: no parameters.
    """
    numbers, holds = [], {}
    streams = {name: tables[f"mirror_{name}_timeline"].where(phase=MIRRORED) for name in ("conversation", "api")}
    for case in cases_of(streams["conversation"]):
        means = {}
        for name, table in streams.items():
            means[name] = float(np.nanmean(table.where(model=case[0], gpu=case[1])["beta"]))
            numbers.append(Number(f"{name_of(case)} {name}", means[name], "s"))
        holds[name_of(case)] = means["conversation"] > means["api"]
    return Finding(tuple(numbers), *verdicts(holds, "beta of conversation lies above that of the API"))


def few_failures(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """Failure rate of the mirrored conversation stream, over all and over the intervals in alpha's lowest quarter: low.

    Args:
        tables: `mirror_conversation_timeline`.
        p: `at_most`, the failure rate that counts as few.
    """
    table = tables["mirror_conversation_timeline"].where(phase=MIRRORED)
    numbers, holds = [], {}
    for case in cases_of(table):
        rows = table.where(model=case[0], gpu=case[1])
        dip = rows["alpha"] <= np.nanquantile(rows["alpha"], 0.25)
        rates = []
        for label, chosen in (("", np.ones(len(rows), bool)), (" where alpha dips", dip)):
            arrivals = rows["arrivals"][chosen].sum()
            if not arrivals:
                raise NoDataError(f"no request of {name_of(case)}{label}")
            rates.append(float(rows["failed"][chosen].sum() / arrivals))
            numbers.append(Number(f"{name_of(case)}{label}", 100 * rates[-1], "%"))
        holds[name_of(case)] = max(rates) <= p["at_most"]
    return Finding(tuple(numbers), *verdicts(holds, f"at most {100 * p['at_most']:.3g} % fail, also where alpha dips"))


def lasting_failures(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """Failure rate of the mirrored API stream above that of conversation, and the longest time of failures without end.

    A spell of failures is a run of timeline intervals in each of which a request fails; intervals without arrivals do
    not end it. The median over the seeds of the longest spell counts.

    Args:
        tables: `mirror_conversation_summary`, `mirror_api_summary`, `mirror_api_timeline`.
        p: `at_least_s`, how long failures must last [s].
    """
    summaries = {name: tables[f"mirror_{name}_summary"] for name in ("conversation", "api")}
    timeline = tables["mirror_api_timeline"].where(phase=MIRRORED)
    numbers, holds = [], {}
    for case in cases_of(timeline):
        rates = {
            name: whole_phase(table, case, MIRRORED, "failure_rate", "%", 100) for name, table in summaries.items()
        }
        rows = timeline.where(model=case[0], gpu=case[1])
        spell = float(np.median([_longest_spell(rows.where(seed=seed)) for seed in sorted(set(rows["seed"]))]))
        for name, rate in rates.items():
            numbers.append(Number(f"{name_of(case)} {name}", rate.value, "%", rate.low, rate.high))
        numbers.append(Number("longest spell", spell, "s"))
        holds[name_of(case)] = apart(rates["conversation"], rates["api"]) and spell >= p["at_least_s"]
    return Finding(
        tuple(numbers), *verdicts(holds, f"the API's failures exceed conversation's and last {p['at_least_s']} s")
    )


def _longest_spell(rows: Table) -> float:
    """Longest time without an interval whose arrivals all succeeded, from a failure to a failure [s]."""
    order = np.argsort(rows["time_s"])
    busy = rows["arrivals"][order] > 0
    failing = (rows["failed"][order] > 0)[busy]
    start, width = rows["time_s"][order][busy], rows["width_s"][order][busy]
    longest, begun = 0.0, None
    for index, fails in enumerate(failing):
        if not fails:
            begun = None
            continue
        begun = start[index] if begun is None else begun
        longest = max(longest, start[index] + width[index] - begun)
    return float(longest)


def degraded(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """Mean token latency of the mirrored API stream: its interval lies above that of conversation.

    Args:
        tables: `mirror_conversation_summary`, `mirror_api_summary`.
        p: no parameters.
    """
    summaries = {name: tables[f"mirror_{name}_summary"] for name in ("conversation", "api")}
    numbers, holds = [], {}
    for case in cases_of(summaries["api"]):
        pair = {
            name: whole_phase(table, case, MIRRORED, "token_latency_mean", "ms/token", 1000)
            for name, table in summaries.items()
        }
        numbers += [
            Number(f"{name_of(case)} {name}", found.value, found.unit, found.low, found.high)
            for name, found in pair.items()
        ]
        holds[name_of(case)] = apart(pair["conversation"], pair["api"])
    return Finding(tuple(numbers), *verdicts(holds, "the API's token latency lies above conversation's"))


def jumps(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """A metric over the steps of varying alpha: its largest inner step exceeds its start by the stated amount.

    Start: mean of the first two steps; peak: largest step but the first and the last two.

    Args:
        tables: `vary_alpha_summary`.
        p: `metric`, `label`, `unit`, `scale` (of what is shown), and `by` (a difference) or `times` (a ratio).
    """
    table = tables["vary_alpha_summary"]
    numbers, holds = [], {}
    for case in cases_of(table):
        start, peak, end = ends_and_peak(series(table, case, p["metric"]))
        numbers += _three(case, (start, peak, end), p)
        holds[name_of(case)] = _jumps(start, peak, p)
    return Finding(tuple(numbers), *verdicts(holds, f"{p['label']} jumps within the variation"))


def recovers(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """A metric over the steps of varying alpha: after a jump (see `jumps`) it ends in the lower half of the way back.

    End: mean of the last two steps, at most halfway between start and peak.

    Args:
        tables: `vary_alpha_summary`.
        p: as `jumps`.
    """
    table = tables["vary_alpha_summary"]
    numbers, holds, steady = [], {}, []
    for case in cases_of(table):
        start, peak, end = ends_and_peak(series(table, case, p["metric"]))
        numbers += _three(case, (start, peak, end), p)
        if _jumps(start, peak, p):
            holds[name_of(case)] = end <= (start + peak) / 2
        else:
            steady.append(name_of(case))
    return _where_it_can(numbers, holds, f"{p['label']} recovers", steady, f"{p['label']} does not jump")


def _where_it_can(
    numbers: Sequence[Number], holds: Mapping[str, bool], claim: str, others: Sequence[str], why: str
) -> Finding:
    """A finding on the cases that can be tested, which says first how many they are, and why the others cannot."""
    if not holds:
        return Finding(tuple(numbers), None, f"{', '.join(others)}: {why}")
    verdict, reason = verdicts(holds, claim)
    if others:
        tested = f"on {len(holds)} of {len(holds) + len(others)} cases"
        reason = f"{tested}: {reason}; not testable on {', '.join(others)}: {why}"
    return Finding(tuple(numbers), verdict, reason)


def _three(case: Case, values: tuple[float, float, float], p: Mapping[str, Any]) -> list[Number]:
    names = (f"{name_of(case)} start", "peak", "end")
    return [Number(name, p["scale"] * value, p["unit"]) for name, value in zip(names, values, strict=True)]


def _jumps(start: float, peak: float, p: Mapping[str, Any]) -> bool:
    return bool(peak - start >= p["by"]) if "by" in p else bool(peak >= p["times"] * start and peak > start)


def kv_fills(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """90th percentile over time of KV-cache use in the step with the highest failure rate: nearly full.

    Args:
        tables: `vary_alpha_summary`.
        p: `at_least`, the share of the cache that counts as full.
    """
    table = tables["vary_alpha_summary"]
    numbers, holds, unfailing = [], {}, []
    for case in cases_of(table):
        failures, use = series(table, case, "failure_rate"), series(table, case, "kv_usage_p90")
        if not failures.max() > 0:
            numbers.append(Number(f"{name_of(case)} highest p90", 100 * float(np.nanmax(use)), "%"))
            unfailing.append(name_of(case))
            continue
        at = int(np.nanargmax(failures))
        numbers.append(Number(f"{name_of(case)} p90", 100 * float(use[at]), "%"))
        holds[name_of(case)] = bool(use[at] >= p["at_least"])
    return _where_it_can(numbers, holds, "the KV cache is full where most requests fail", unfailing, "no request fails")


def rank_correlation(values: np.ndarray) -> float:
    """Spearman's correlation of values with their order; ties take their mean rank; 0 for a constant."""
    ranks = np.array([(values < value).sum() + ((values == value).sum() + 1) / 2 for value in values])
    if np.ptp(ranks) == 0:
        return 0.0
    return float(np.corrcoef(np.arange(len(values)), ranks)[0, 1])


def rises_gradually(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """A metric over the steps of falling beta: it rises in rank order, and no single step takes most of the rise.

    Args:
        tables: `vary_beta_summary`.
        p: `metric`, `label`, `unit`, `rank` (least Spearman correlation with the step), `single` (largest share of the
            rise from the first to the highest step that one step may take).
    """
    table = tables["vary_beta_summary"]
    numbers, holds = [], {}
    for case in cases_of(table):
        values = series(table, case, p["metric"])
        if np.isnan(values).any():
            raise NoDataError(f"{p['metric']} of {name_of(case)} was not measured in every step")
        rank = rank_correlation(values)
        rise = float(values.max() - values[0])
        single = float(np.diff(values).max() / rise) if rise > 0 else 1.0
        numbers += [
            Number(f"{name_of(case)} from", float(values[0]), p["unit"]),
            Number("to", float(values[-1]), p["unit"]),
            Number("rank correlation", rank),
            Number("largest step", 100 * single, "% of the rise"),
        ]
        holds[name_of(case)] = rank >= p["rank"] and single <= p["single"]
    return Finding(tuple(numbers), *verdicts(holds, f"{p['label']} rises gradually"))


def drifts_slightly(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """A metric over the steps of rising theta, last two steps against first two: small change in the stated direction.

    Args:
        tables: `vary_theta_summary`.
        p: `metric`, `label`, `direction` ("rises" or "falls"), `at_most` (relative change that counts as slight).
    """
    table = tables["vary_theta_summary"]
    sign = {"rises": 1, "falls": -1}[p["direction"]]
    numbers, holds = [], {}
    for case in cases_of(table):
        start, _, end = ends_and_peak(series(table, case, p["metric"]))
        if not start > 0:
            raise NoDataError(f"{p['metric']} of {name_of(case)} was not measured at both ends")
        change = end / start - 1
        numbers.append(Number(name_of(case), 100 * change, "% change"))
        holds[name_of(case)] = 0 < sign * change <= p["at_most"]
    return Finding(
        tuple(numbers), *verdicts(holds, f"{p['label']} {p['direction']} by at most {100 * p['at_most']:.0f} %")
    )


def smaller_effect(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """Range over mean of a metric over the steps: smaller when theta varies than when alpha or beta does.

    Args:
        tables: `vary_theta_summary`, `vary_alpha_summary`, `vary_beta_summary`.
        p: `metric`, `label`.
    """
    summaries = {name: tables[f"vary_{name}_summary"] for name in ("theta", "alpha", "beta")}
    numbers, holds = [], {}
    for case in cases_of(summaries["theta"]):
        ranges = {}
        for name, table in summaries.items():
            values = series(table, case, p["metric"])
            if np.isnan(values).all() or not np.nanmean(values) > 0:
                raise NoDataError(f"{p['metric']} of {name_of(case)} was not measured while {name} varies")
            ranges[name] = float((np.nanmax(values) - np.nanmin(values)) / np.nanmean(values))
            numbers.append(Number(f"{name_of(case)} {name}" if name == "theta" else name, 100 * ranges[name], "%"))
        holds[name_of(case)] = ranges["theta"] < min(ranges["alpha"], ranges["beta"])
    return Finding(tuple(numbers), *verdicts(holds, f"{p['label']} moves less with theta than with alpha and beta"))


def sudden_failures(tables: Tables, p: Mapping[str, Any]) -> Finding:
    """Neighbouring steps of varying alpha: a small change of alpha, a jump of failures, latency and throughput steady.

    The step with the largest jump of the failure rate counts, among those whose alpha changes by at most `alpha` times
    the first step's alpha.

    Args:
        tables: `vary_alpha_summary`.
        p: `alpha` (relative), `jump` (of the failure rate), `steady` (relative change of mean latency and throughput).
    """
    table = tables["vary_alpha_summary"]
    numbers, holds = [], {}
    for case in cases_of(table):
        failures, latency, throughput = (
            series(table, case, metric) for metric in ("failure_rate", "latency_mean", "throughput_tokens")
        )
        rows = table.where(model=case[0], gpu=case[1], phase=VARIATION, metric="failure_rate")
        steps = rows["step"]
        alpha = rows["alpha"][np.argsort(steps)][np.sort(steps) != WHOLE_PHASE]
        small = np.abs(np.diff(alpha)) <= p["alpha"] * alpha[0]
        if not small.any():
            raise NoDataError(f"alpha of {name_of(case)} changes by more than {100 * p['alpha']:.0f} % at every step")
        at = int(np.argmax(np.where(small, np.diff(failures), -np.inf)))
        jump = float(failures[at + 1] - failures[at])
        with np.errstate(divide="ignore", invalid="ignore"):
            changes = [float(values[at + 1] / values[at] - 1) for values in (latency, throughput)]
        numbers += [
            Number(
                f"{name_of(case)} failures",
                100 * jump,
                f"points at alpha {digits(alpha[at])} to {digits(alpha[at + 1])}",
            ),
            Number("latency", 100 * changes[0], "%") if np.isfinite(changes[0]) else Number("latency", None),
            Number("throughput", 100 * changes[1], "%") if np.isfinite(changes[1]) else Number("throughput", None),
        ]
        holds[name_of(case)] = jump >= p["jump"] and all(abs(change) <= p["steady"] for change in changes)
    return Finding(tuple(numbers), *verdicts(holds, "failures jump at a small change of alpha while the means hold"))


TESTS = {
    test.__name__: test
    for test in (
        kv_in_band,
        beta_above,
        few_failures,
        lasting_failures,
        degraded,
        jumps,
        recovers,
        kv_fills,
        rises_gradually,
        drifts_slightly,
        smaller_effect,
        sudden_failures,
    )
}
