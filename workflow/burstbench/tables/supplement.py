"""Tables S01 to S13: what stands behind the figures of the workload. Pure functions of tables."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from burstbench import contracts
from burstbench.contracts import Contract
from burstbench.figures.inputs import Artifact, Columns, Inputs, caption, distinct, number, size, where
from burstbench.tables.made import NONE, Made

SERVICES = ("conversation", "api", "all")
MODELS = ("ChatGPT", "GPT-4")
ALMOST_NOTHING = 1e-4  # p-values below are printed as such


def _artifact(id_: str, title: str, origins: tuple[str, ...] = ("trace",), **tables: Contract) -> Artifact:
    return Artifact(id_, title, tables, {}, origins)


# Texts ----------------------------------------------------------------------------------------------------------------


def digits(value: float, places: int = 3) -> str:
    """Return a number with so many significant digits, "–" for none: 0.521, 57.4, 1,234."""
    if not np.isfinite(value):
        return NONE
    if value and abs(value) >= 10**places:
        return f"{value:,.0f}".replace("-", "−")
    text = f"{value:.{places}g}"
    return (f"{float(text):f}".rstrip("0").rstrip(".") if "e" in text else text).replace("-", "−")


def span(low: float, high: float) -> str:
    """Return "low–high", "" where there is none."""
    return "" if np.isnan(low) or np.isnan(high) else f"{digits(low)}–{digits(high)}"


def interval(value: float, low: float, high: float) -> str:
    """Return "value [low, high]"."""
    return digits(value) if np.isnan(low) or np.isnan(high) else f"{digits(value)} [{digits(low)}, {digits(high)}]"


def percent(value: float, places: int = 2) -> str:
    """Return a share in per cent: "5.79 %"."""
    return NONE if np.isnan(value) else f"{100 * value:.{places}f} %".replace("-", "−")


def percent_interval(rate: float, low: float, high: float) -> str:
    """Return a share and its interval in per cent: "5.79 % [5.65, 5.93]"."""
    return NONE if np.isnan(rate) else f"{100 * rate:.2f} % [{100 * low:.2f}, {100 * high:.2f}]"


def chance(value: float) -> str:
    """Return a p-value."""
    return NONE if np.isnan(value) else f"< {ALMOST_NOTHING:g}" if value < ALMOST_NOTHING else digits(value, 2)


def _groups(columns: Columns) -> list[tuple[str, str]]:
    """Return the (service, model) pairs that occur, the paper's first."""
    pairs = set(zip(columns["service"], columns["model"], strict=True))
    services, models = distinct(columns["service"], SERVICES), distinct(columns["model"], MODELS)
    models = [name for name in models if name != "all"] + ["all"]
    return [(service, name) for service in services for name in models if (service, name) in pairs]


def _rows(columns: Columns) -> Iterable[dict]:
    for index in range(size(columns)):
        yield {name: values[index] for name, values in columns.items()}


def _made(inputs: Inputs, header: Sequence[str], rows: list[list[str]], what: str, filters: str, extra: str) -> Made:
    """Put a table together; one without rows says so in its only one."""
    if not rows:
        rows = [["no such requests in this trace", *[NONE] * (len(header) - 1)]]
    text = caption(what, inputs.facts, inputs.artifact.origins, filters, "", extra)
    return Made(inputs.artifact, [list(header), *rows], text)


# Tables ---------------------------------------------------------------------------------------------------------------


def window(inputs: Inputs, _runs: Sequence[Path]) -> Made:
    """S01: the characterised days beside the whole trace."""
    found = inputs.read("trace_window")
    rows = []
    for service, model in _groups(found):
        part = where(found, service=service, model=model)
        row = [service, model]
        for quantity in ("requests_per_day", "failed_mean", "request_tokens_mean", "response_tokens_mean"):
            one = where(part, quantity=quantity)
            write = percent if quantity == "failed_mean" else digits
            row += [write(float(one["whole"][0])), write(float(one["window"][0]))]
        unlike = [name.removesuffix("_mean").replace("_", " ") for name in part["quantity"][part["unlike"]]]
        rows.append([*row, ", ".join(unlike) or "no"])
    pairs = ("Requests a day", "Failed", "Request tokens", "Response tokens")
    first, last, days = (int(found[name][0]) for name in ("from_day", "to_day", "of_days"))
    return _made(
        inputs,
        ["Service", "Model", *(f"{name}{part}" for name in pairs for part in (", whole", ", window")), "Unlike"],
        rows,
        f"The days that are characterised, {first} to {last}, beside the whole trace of {days} days",
        "all requests",
        "Unlike: in which numbers the window is more than 1.5 times larger or smaller than the whole.",
    )


PERIODIC = {
    "autocorrelation_24h": "r, 24 h",
    "autocorrelation_168h": "r, 168 h",
    "hour_of_day_share": "Hour of day, share of variance",
    "day_night_ratio": "Day / night",
    "daily_autocorrelation_7d": "r of days, 7 d",
    "daily_cv": "CV of days",
    "weekday_ratio": "Workday / weekend",
}
COUNTED = {"": "requests", "request_tokens_": "request tokens", "response_tokens_": "response tokens"}


def periodicity(inputs: Inputs, _runs: Sequence[Path]) -> Made:
    """S02: how hours and days repeat."""
    found = inputs.read("periodicity")
    rows = []
    for service, model in _groups(found):
        if "all" in (service, model):
            continue
        own = {row["statistic"]: row for row in _rows(where(found, service=service, model=model))}
        for prefix, counted in COUNTED.items():
            row = [service, model, counted]
            for statistic in PERIODIC:
                one = own.get(prefix + statistic)
                row.append(NONE if one is None else interval(one["value"], one["low"], one["high"]))
            weekday = own.get(f"{prefix}weekday_ratio")
            rows.append([*row, NONE if weekday is None else chance(weekday["p_value"])])
    return _made(
        inputs,
        ["Service", "Model", "Of", *PERIODIC.values(), "p of it"],
        rows,
        "Periodicity: autocorrelation of hourly values after a day and after a week, the share of their variance that "
        "the hour of day explains, mean of the working hours over that of the night, autocorrelation of daily totals "
        "after a week, their coefficient of variation, and workdays over weekend days",
        "all requests",
        "In brackets: 95 % intervals by bootstrap over days; p: permutation of the days.",
    )


def doublings(inputs: Inputs, _runs: Sequence[Path]) -> Made:
    """S03: doublings a workday under every definition."""
    found = where(inputs.read("doublings"), day_type="workday")
    widths = np.unique(found["width_s"])
    rows = []
    for service, model in _groups(found):
        own = where(found, service=service, model=model)
        for alignment in distinct(own["alignment"]):
            for zero_rule in distinct(own["zero_rule"]):
                row = [service, model, alignment, "skipped" if zero_rule == "skip" else "counted"]
                for width in widths:
                    one = where(own, alignment=alignment, zero_rule=zero_rule, width_s=width)
                    values = [float(one[name][0]) for name in ("per_day", "low", "high", "published")]
                    row += [interval(*values[:3]), digits(values[3])]
                    off = values[0] / values[3] - 1
                    row.append(NONE if np.isnan(off) else f"{100 * off:+.0f} %".replace("-", "−"))
                rows.append(row)
    days = int(found["days"].max()) if size(found) else 0
    columns = [f"{width / 60:g} min{part}" for width in widths for part in ("", ", paper", ", error")]
    return _made(
        inputs,
        ["Service", "Model", "Windows", "After an empty one", *columns],
        rows,
        "How often on a workday the number of requests at least doubles from one window to the next, under every "
        "definition that the paper leaves open",
        f"{days} workdays",
        "In brackets: 95 % intervals by bootstrap over days. The paper gives 65 and 38 for ChatGPT and names neither "
        "service nor definition. Sliding: windows start every minute and follow the one that ends there; starts in a "
        "row that double count once.",
    )


def estimators(inputs: Inputs, _runs: Sequence[Path]) -> Made:
    """S04: the Gamma estimators beside each other."""
    found = inputs.read("gamma_summary")
    names = {"seconds": "likelihood of whole seconds", "jitter": "seeded jitter", "moments": "moments"}
    rows = []
    for service, model in _groups(found):
        for kind in ("all", "workday", "weekend"):
            for estimator, name in names.items():
                part = where(found, service=service, model=model, day_type=kind, estimator=estimator)
                if kind != "all" and estimator != "seconds":
                    continue
                for row in _rows(part):
                    rows.append(
                        [
                            service,
                            model,
                            kind,
                            name,
                            f"{number(row['fitted'])} / {number(row['few'])}",
                            digits(row["rate_per_s"]),
                            f"{digits(row['alpha'])} ({span(row['alpha_q1'], row['alpha_q3'])})",
                            digits(row["cv"]),
                            digits(row["beta_scale_s"]),
                            digits(row["beta_rate_per_s"]),
                            f"{digits(row['alpha_ratio'])} ({span(row['alpha_ratio_p05'], row['alpha_ratio_p95'])})",
                            percent(row["inside_share"], 0),
                        ]
                    )
    width, offset, tick = (float(found[name][0]) for name in ("width_s", "offset_s", "resolution_s"))
    return _made(
        inputs,
        [
            "Service",
            "Model",
            "Days",
            "Estimator",
            "Windows fitted / too few",
            "Rate (1/s)",
            "α (quartiles)",
            "CV",
            "β, scale (s)",
            "β, rate (1/s)",
            "α / α of seconds (5–95 %)",
            "Within its interval",
        ],
        rows,
        f"Gamma parameters of the gaps in windows of {width:g} s: three estimators, medians over the windows",
        f"windows from {offset:g} s after midnight, not those with too few gaps; timestamps known to {tick:g} s",
        "The likelihood of whole seconds integrates over what the timestamps leave open. Within its interval: share of "
        "windows whose α lies in the 95 % interval of that likelihood.",
    )


def beta_readings(inputs: Inputs, _runs: Sequence[Path]) -> Made:
    """S05: both meanings of β, and the counts-per-window reading."""
    profile, counts = inputs.read("gamma_profile"), inputs.read("gamma_counts")
    hours = np.unique(profile["window_s"])
    counts = {name: values[np.isin(counts["window_s"], hours)] for name, values in counts.items()}
    rows = []
    for service, model in _groups(profile):
        own, of_counts = (where(table, service=service, model=model) for table in (profile, counts))
        row = [service, model]
        for table, names in ((own, ("alpha", "beta_scale_s", "beta_rate_per_s")), (of_counts, COUNT_COLUMNS)):
            for name in names:
                values = table[name][~np.isnan(table[name])] if size(table) else np.zeros(0)
                row.append(
                    f"{digits(float(np.median(values)))} ({span(*np.quantile(values, (0.05, 0.95)))})"
                    if values.size
                    else NONE
                )
        rows.append(row)
    gaps = [f"Gaps: {name}" for name in ("α", "β, scale (s)", "β, rate (1/s)")]
    counted = [f"Counts: {name}" for name in ("α", "β, scale (requests)", "β, rate (1/requests)", "mean")]
    return _made(
        inputs,
        ["Service", "Model", *gaps, *counted],
        rows,
        "The readings of the paper's α and β: of the gaps within a window, β as scale or as rate, and of the number of "
        "requests in the same window of different days",
        f"workdays, windows of {float(profile['width_s'][0]):g} s in the active hours",
        "Medians over the windows of the day, in brackets 5th to 95th percentile. Counts: by moments over the days, "
        "α = mean² / variance.",
    )


COUNT_COLUMNS = ("alpha", "beta_scale", "beta_rate", "mean")


def families(inputs: Inputs, _runs: Sequence[Path]) -> Made:
    """S06: Gamma against other families."""
    found = inputs.read("gamma_families")
    rows = [
        [
            row["service"],
            row["model"],
            row["family"],
            number(row["windows"]),
            percent(row["aic_best_share"], 1),
            digits(row["aic_delta_median"]),
            percent(row["test_pass_share"], 1),
            NONE if np.isnan(row["test_power"]) else f"{digits(row['test_power'], 2)} against {row['power_against']}",
        ]
        for service, model in _groups(found)
        for row in _rows(where(found, service=service, model=model))
    ]
    return _made(
        inputs,
        ["Service", "Model", "Family", "Windows", "Lowest AIC", "ΔAIC to Gamma, median", "Not rejected", "Power"],
        rows,
        "Families of gaps within the windows, all by the same likelihood of whole seconds",
        "windows with enough gaps in which Gamma, Weibull and log-normal have an optimum",
        "Not rejected: share of windows drawn at random that a parametric-bootstrap test at 5 % does not reject. "
        "Power: how often that test rejects samples of the same size from the other family's fit. A family that is not "
        "rejected with little power is not shown to be right.",
    )


def recovery(inputs: Inputs, _runs: Sequence[Path]) -> Made:
    """S07: what the estimators make of known parameters."""
    found = inputs.read("recovery_gamma")
    names = distinct(found["estimator"], ("seconds", "jitter", "moments"))
    rows = []
    settings = sorted(set(zip(found["alpha"], found["mean_s"], found["n"], strict=True)))
    for alpha, mean, n in settings:
        row = [f"{alpha:g}", f"{mean:g}", number(n)]
        for name in names:
            one = where(found, alpha=alpha, mean_s=mean, n=n, estimator=name)
            row.append(digits(float(one["ratio"][0])))
            if name != "moments":
                row.append(percent(float(one["coverage"][0]), 0))
        rows.append(row)
    columns = [
        text for name in names for text in (f"{name}: α̂/α", *([f"{name}: coverage"] if name != "moments" else []))
    ]
    return _made(
        inputs,
        ["α", "Mean gap (s)", "Gaps", *columns],
        rows,
        "Recovery of a known α from gaps whose timestamps are cut to whole seconds: median of the estimate over the "
        "truth, and how often the 95 % interval holds the truth (moments have none)",
        "",
        "Simulated samples, 20 to 2,000 a line; data/validation/README.md says how they were made.",
    )


FAMILY_ORDER = ("zipf", "lognormal", "exponential", "powerlaw_cutoff")


def length_laws(inputs: Inputs, _runs: Sequence[Path]) -> Made:
    """S08: Zipf against other laws of lengths."""
    found = inputs.read("length_fits")
    rows = []
    for source in distinct(found["source"]):
        for quantity in ("request", "response"):
            own = where(found, source=source, quantity=quantity)
            for family in distinct(own["family"], FAMILY_ORDER):
                row = next(iter(_rows(where(own, family=family))))
                fitted = ", ".join(f"{name} {digits(value)}" for name, value in json.loads(row["parameters"]).items())
                rows.append(
                    [
                        source.removeprefix("trace "),
                        quantity,
                        family.replace("_", " "),
                        number(row["n"]),
                        fitted,
                        digits(row["ratio"], 4) if family != "zipf" else NONE,
                        chance(row["p_value"]),
                        digits(row["ks"]),
                    ]
                )
    return _made(
        inputs,
        ["Requests of", "Lengths", "Law", "n", "Parameters", "Log-likelihood above Zipf's", "p (Vuong)", "KS distance"],
        rows,
        "Laws of lengths: truncated Zipf (zeta) by maximum likelihood beside log-normal, exponential and a power law "
        "with cut-off, all on 1 … the longest",
        "answered requests",
        "A positive difference speaks against Zipf. KS: largest distance of the distribution functions; with this many "
        "requests every law is rejected, so the distance tells more than a p-value.",
    )


RELATIONS = {
    "pearson": "Pearson",
    "spearman": "Spearman",
    "slope": "Slope",
    "piecewise_break": "Break (tokens)",
    "piecewise_slope_below": "Slope below",
    "piecewise_slope_above": "Slope above",
    "quantile_slope_05": "Slope, 5 %",
    "quantile_slope_50": "Slope, median",
    "quantile_slope_95": "Slope, 95 %",
}


def responses(inputs: Inputs, _runs: Sequence[Path]) -> Made:
    """S09: modes of responses, and responses on requests."""
    found = inputs.read("length_tests")
    rows = []
    for source in distinct(found["source"]):
        own = {row["statistic"]: row for row in _rows(where(found, source=source))}
        row = [source.removeprefix("trace ")]
        for dip in ("response_dip", "response_log_dip"):
            one = own.get(dip)
            row.append(NONE if one is None else f"{digits(one['value'])}, p {chance(one['p_value'])}")
        for statistic in RELATIONS:
            one = own.get(statistic)
            row.append(NONE if one is None else interval(one["value"], one["low"], one["high"]))
        rows.append(row)
    return _made(
        inputs,
        ["Requests of", "Dip, tokens", "Dip, log tokens", *RELATIONS.values()],
        rows,
        "Are the response lengths bimodal (Hartigan's dip), and how do they go with the request lengths",
        "answered requests",
        "A small p speaks for more than one mode. In brackets: 95 % intervals. Slopes in response tokens per request "
        "token: least squares, two lines that meet, and lines of the 5th, 50th and 95th percentile.",
    )


def failure_rates(inputs: Inputs, _runs: Sequence[Path]) -> Made:
    """S10: failures stratified and pooled."""
    found = inputs.read("failures")
    rows = []
    for service, model in _groups(found):
        row = next(iter(_rows(where(found, service=service, model=model))))
        kind = "pooled" if "all" in (service, model) else "cell"
        rate = percent_interval(row["rate"], row["low"], row["high"])
        rows.append([service, model, kind, number(row["requests"]), number(row["failed"]), rate])
    return _made(
        inputs,
        ["Service", "Model", "", "Requests", "Failed", "Rate, 95 % Wilson interval"],
        rows,
        "Failure rates of each service and model, and pooled over them",
        "all requests",
        "A request failed if its response has 0 tokens. The order of the models may turn when services are pooled, "
        "since their shares differ.",
    )


def failures_by_load(inputs: Inputs, _runs: Sequence[Path]) -> Made:
    """S11: failures against the load of the same minute."""
    found = inputs.read("failure_loads")
    parts = range(1, 6)
    rows = []
    for service, model in _groups(found):
        for load_of in ("own", "all"):
            own = where(found, service=service, model=model, load_of=load_of)
            row = [service, model, "the same" if load_of == "own" else "all requests"]
            for part in parts:
                one = next(iter(_rows(where(own, part=part))), None)
                row.append(
                    NONE
                    if one is None
                    else f"{number(one['load_low'])}–{number(one['load_high'])}: "
                    f"{percent_interval(one['rate'], one['low'], one['high'])}"
                )
            if size(own):
                rows.append(row)
    return _made(
        inputs,
        ["Service", "Model", "Load of", *(f"Fifth {part}" for part in parts)],
        rows,
        "Failure rates by the number of requests in the same minute, in fifths of the requests by that load",
        "all requests",
        "Each cell: smallest to largest load, failure rate and 95 % Wilson interval as if requests failed "
        "independently. Equal loads stay together, so there may be fewer than five.",
    )


QUANTITIES = {
    "turns": "turns",
    "session_s": "length of a session",
    "gap_s": "request to request",
    "think_s": "answer to next request",
    "elapsed_s": "request to answer",
    "tokens_per_s": "tokens a second",
}


def sessions(inputs: Inputs, _runs: Sequence[Path]) -> Made:
    """S12: sessions and speed, and speed against load."""
    found, loads = inputs.read("sessions"), inputs.read("speed_loads")
    rows = []
    for service, model in _groups(found):
        for quantity in distinct(where(found, service=service, model=model)["quantity"], tuple(QUANTITIES)):
            row = next(iter(_rows(where(found, service=service, model=model, quantity=quantity))))
            unit = "" if row["unit"] == "1" else f" ({row['unit']})"
            values = [digits(row[name]) for name in ("mean", "p05", "q1", "median", "q3", "p95")]
            name = f"{QUANTITIES.get(quantity, quantity)}{unit}"
            rows.append([service, model, name, number(row["n"]), *values])
    for service, model in _groups(loads):
        for row in _rows(where(loads, service=service, model=model, load_of="all")):
            name = f"tokens a second at {number(row['load_low'])}–{number(row['load_high'])} requests/min"
            values = [NONE, NONE, *(digits(row[f"tokens_per_s{part}"]) for part in ("_q1", "", "_q3")), NONE]
            rows.append([service, model, name, number(row["requests"]), *values])
    return _made(
        inputs,
        ["Service", "Model", "Quantity", "n", "Mean", "5 %", "25 %", "Median", "75 %", "95 %"],
        rows,
        "Sessions and speed, where the trace has session identifiers and elapsed times; the speed also by the load of "
        "all requests in the same minute",
        "requests with a session, or with an elapsed time",
        "The twin and release 1 of BurstGPT have neither." if not rows else "",
    )


@dataclass(frozen=True)
class Target:
    """A group of published numbers, and how close the twin has to come.

    Attributes:
        name: of the group.
        within: largest error allowed, relative; a difference of shares for rates. NaN: none is set.
        members: which rows of the check belong to it.
    """

    name: str
    within: float
    members: Callable[[str, str], bool]


def _corner(quantity: str, corners: tuple[str, ...]) -> Callable[[str, str], bool]:
    return lambda table, item: (
        table == "hourly_boxes" and item.startswith(quantity) and item.rsplit(" ", 1)[-1] in corners
    )


def _moment(*starts: str) -> Callable[[str, str], bool]:
    return lambda table, item: table == "moments" and item.startswith(starts)


OTHERS = ("whisker_low", "q1", "q3", "whisker_high")
TARGETS = (
    Target("requests of the whole trace, services and models", 0.02, _moment("requests:", "period:", "rate:")),
    Target("daily totals", 0.02, lambda table, _: table == "daily_requests"),
    Target("hourly requests, medians", 0.1, _corner("hourly_request_count", ("median",))),
    Target("hourly request tokens, medians", 0.1, _corner("hourly_request_tokens", ("median",))),
    Target("hourly response tokens, medians", 0.1, _corner("hourly_response_tokens", ("median",))),
    Target("hourly requests, other corners of the boxes", np.nan, _corner("hourly_request_count", OTHERS)),
    Target("hourly request tokens, other corners", np.nan, _corner("hourly_request_tokens", OTHERS)),
    Target("hourly response tokens, other corners", np.nan, _corner("hourly_response_tokens", OTHERS)),
    Target(
        "quartiles of tokens",
        0.05,
        _moment(*(f"{of} tokens: {item}" for of in ("request", "response") for item in ("1st", "med", "3rd"))),
    ),
    Target(
        "other moments of tokens",
        np.nan,
        _moment(*(f"{of} tokens: {item}" for of in ("request", "response") for item in ("mean", "sd", "max", "rows"))),
    ),
    Target("gaps between requests", np.nan, _moment("gaps:")),
    Target("responses by request length", np.nan, lambda table, _: table == "response_by_request_tokens"),
)
RATE_WITHIN = 0.002


def published(inputs: Inputs, _runs: Sequence[Path]) -> Made:
    """S13: the trace beside every group of published numbers."""
    found = inputs.read("trace_check")
    rows = []
    for target in TARGETS:
        members = np.array([target.members(*pair) for pair in zip(found["table"], found["item"], strict=True)], bool)
        own = {name: values[members & ~found["clipped"]] for name, values in found.items()}
        known = np.flatnonzero(~np.isnan(own["error"]))
        own = {name: values[known] for name, values in own.items()}
        if not size(own):
            continue
        # What is no further off than the figure could be read is met.
        readable = np.abs(own["found"] - own["published"]) <= own["reading_error"] * (1 + 1e-9)
        rows.append(_against(target.name, own["item"], own["error"], readable, target.within))
    rates, items = _failure_rates(found)
    if rates.size:
        rows.append(_against("failure rates (points)", items, rates, np.zeros(len(rates), bool), RATE_WITHIN))
    clipped = int(found["clipped"].sum())
    below = int((found["clipped"] & (found["found"] < found["published"])).sum())
    return _made(
        inputs,
        ["Published", "n", "Error, median", "Error, 90 %", "Largest", "Where", "Target", "Within it", "Target met"],
        rows,
        "How far the trace lies from the published numbers",
        "",
        "Errors are relative, or differences for shares. Within it: share of the numbers that meet the target or are "
        f"no further off than they could be read. {clipped} daily totals are lower limits only and not counted; "
        f"{below} of them are missed. trace/check.csv lists every number.",
    )


def _against(name: str, items: np.ndarray, error: np.ndarray, readable: np.ndarray, within: float) -> list[str]:
    off = np.abs(error)
    place = int(np.argmax(off))
    row = [name, number(len(off)), percent(float(np.median(off))), percent(float(np.quantile(off, 0.9)))]
    row += [percent(float(off[place])), str(items[place])]
    if np.isnan(within):
        return [*row, NONE, NONE, NONE]
    met = (off <= within) | readable
    return [*row, percent(within, 1), percent(float(met.mean()), 1), "yes" if met.all() else "no"]


def _failure_rates(found: Columns) -> tuple[np.ndarray, np.ndarray]:
    """Return the differences of the failure rates whose failures and requests are both published, and their names."""
    values = {row["item"]: (row["published"], row["found"]) for row in _rows(where(found, table="moments"))}
    names, differences = [], []
    for item, (expected, own) in values.items():
        of = item.removeprefix("failures: ")
        if item.startswith("failures: ") and f"requests: {of}" in values:
            all_expected, all_own = values[f"requests: {of}"]
            names.append(of)
            differences.append(own / all_own - expected / all_expected if all_own else np.nan)
    kept = ~np.isnan(np.array(differences, float))
    return np.array(differences, float)[kept], np.array(names, object)[kept]


RECOVERY_GAMMA = contracts.RECOVERY_GAMMA
TABLES: dict[str, tuple[Artifact, Callable[[Inputs, Sequence[Path]], Made]]] = {
    artifact.id: (artifact, make)
    for artifact, make in (
        (_artifact("tableS01", "The window beside the whole trace", trace_window=contracts.TRACE_WINDOW), window),
        (_artifact("tableS02", "Periodicity", periodicity=contracts.PERIODICITY), periodicity),
        (_artifact("tableS03", "Doublings under all definitions", doublings=contracts.DOUBLINGS), doublings),
        (_artifact("tableS04", "Gamma estimators", gamma_summary=contracts.GAMMA_SUMMARY), estimators),
        (
            _artifact(
                "tableS05",
                "Readings of α and β",
                gamma_profile=contracts.GAMMA_PROFILE,
                gamma_counts=contracts.GAMMA_COUNTS,
            ),
            beta_readings,
        ),
        (_artifact("tableS06", "Gamma against other families", gamma_families=contracts.GAMMA_FAMILIES), families),
        (_artifact("tableS07", "Recovery of known parameters", (), recovery_gamma=RECOVERY_GAMMA), recovery),
        (_artifact("tableS08", "Laws of lengths", length_fits=contracts.LENGTH_FITS), length_laws),
        (_artifact("tableS09", "Modes and relations of lengths", length_tests=contracts.LENGTH_TESTS), responses),
        (_artifact("tableS10", "Failures, stratified and pooled", failures=contracts.FAILURES), failure_rates),
        (_artifact("tableS11", "Failures by load", failure_loads=contracts.FAILURE_LOADS), failures_by_load),
        (
            _artifact("tableS12", "Sessions and speed", sessions=contracts.SESSIONS, speed_loads=contracts.SPEED_LOADS),
            sessions,
        ),
        (
            _artifact(
                "tableS13", "The trace beside the published numbers of BurstGPT", trace_check=contracts.TRACE_CHECK
            ),
            published,
        ),
    )
}
