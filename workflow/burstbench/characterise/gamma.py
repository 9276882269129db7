"""`burstbench characterise gamma`: Gamma fits of the gaps, window by window (Fig. 6)."""

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from burstbench.characterise.cells import DAY_S, Calendar, Cells, read_cells
from burstbench.cli import add_settings
from burstbench.contracts import GAMMA_COUNTS, GAMMA_FAMILIES, GAMMA_PROFILE, GAMMA_SUMMARY, GAMMA_WINDOWS
from burstbench.errors import UserError
from burstbench.progress import progress
from burstbench.seeds import generator
from burstbench.stats.gamma import GammaFit, fit_continuous, fit_moments, fit_seconds, goodness
from burstbench.stats.seconds import EXPONENTIAL, FAMILIES, GAMMA, LOGNORMAL, PARETO, Gaps, fit

TABLES = ("gamma_windows", "gamma_profile", "gamma_summary", "gamma_counts", "gamma_families")
ESTIMATORS = ("seconds", "jitter", "moments")
# The finest resolution [s]: the integrals of the likelihood lose digits with finer ticks.
FINEST_S = 1e-4
# Share of a tick by which a timestamp may miss it: floating-point seconds of many months.
SLACK = 1e-3
# Samples behind each goodness-of-fit test.
RESAMPLES = 99


class Windows(NamedTuple):
    """The windows of all cells: number = (cell · days + day) · windows a day + window within the day.

    Attributes:
        width_s: width of a window.
        offset_s: where the first window of a day starts; a day's last one ends so much after midnight.
        tick_s: what the timestamps are known to.
        per_day: windows of a day.
        requests: of each window, shape (windows,).
        window: of each gap, shape (n,). A gap belongs to a window if both of its requests lie in it.
        gap: in whole ticks, shape (n,).
    """

    width_s: int
    offset_s: int
    tick_s: float
    per_day: int
    requests: np.ndarray
    window: np.ndarray
    gap: np.ndarray


def resolution(time_s: np.ndarray) -> float:
    """What timestamps are known to [s]: the coarsest of 1, 0.1, 0.01 and 0.001 s that all are multiples of.

    Finer ones count as known to 0.001 s: against gaps of more than some milliseconds that is as good as exact, and two
    requests at the same instant are no contradiction.
    """
    for digits in range(3):
        ticks = time_s * 10**digits
        if (np.abs(ticks - np.rint(ticks)) < SLACK).all():
            return 1 / 10**digits
    return 0.001


def cut(
    cells: Cells, calendar: Calendar, width_s: int, offset_s: int = 0, tick_s: float = 1.0
) -> tuple[Windows, np.ndarray]:
    """Cut every cell's requests into windows.

    Args:
        cells: the trace.
        calendar: its days.
        width_s: width of a window [s], a divisor of a day.
        offset_s: start of the first window of a day [s], below the width. Requests before that of day 1 are left out.
        tick_s: what the timestamps are known to [s], a divisor of the width; finer ones are cut to it.

    Returns:
        The windows, and the requests of all cells on one axis, the calendars of the cells end to end: rising whole
        ticks of shape (n,). Window k of all is [k · width, (k + 1) · width) on it.

    Raises:
        UserError: the width does not divide a day, the offset is not within it, or the resolution does not divide it.
    """
    if width_s < 1 or DAY_S % width_s:
        raise UserError(f"settings: window_s is {width_s!r}, expected a divisor of a day ({DAY_S} s)")
    if not 0 <= offset_s < width_s:
        raise UserError(f"settings: offset_s is {offset_s!r}, expected at least 0 and less than window_s, {width_s}")
    width = round(width_s / tick_s) if tick_s >= FINEST_S else 0
    if width < 1 or abs(width * tick_s - width_s) > 1e-9 * width_s:
        raise UserError(
            f"settings: resolution_s is {tick_s!r}, expected a divisor of window_s, {width_s}, of at least {FINEST_S:g}"
        )
    per_day = DAY_S // width_s
    since = cells.time_s - offset_s
    kept = slice(int(np.searchsorted(since, 0)), None)
    stamps = np.floor(since[kept] / tick_s + SLACK).astype(np.int64)
    axis = np.sort(cells.cell[kept] * (calendar.days * per_day * width) + stamps)
    window = axis // width
    inside = window[1:] == window[:-1]
    requests = np.bincount(window, minlength=len(cells.labels) * calendar.days * per_day)
    gap = np.diff(axis)[inside]
    return Windows(width_s, offset_s, tick_s, per_day, requests, window[1:][inside], gap), axis


def fit_jittered(axis: np.ndarray, width: int, fitted: np.ndarray, rng: np.random.Generator) -> GammaFit:
    """Spread each timestamp uniformly over its tick and fit the gaps as if they were exact.

    Args:
        axis: requests as `cut` gives them, shape (n,).
        width: width of a window in ticks.
        fitted: numbers of the windows to fit.
        rng: for the jitter.

    Returns:
        One row for each of `fitted`.
    """
    # A request stays in its tick, so it stays in its window.
    spread = np.sort(axis + rng.random(len(axis)))
    window = (spread // width).astype(np.int64)
    inside = window[1:] == window[:-1]
    gap = np.maximum(np.diff(spread)[inside], 1e-9)
    total = int(fitted.max(initial=-1)) + 1
    kept = window[1:][inside]
    n = np.bincount(kept, minlength=total)[fitted]
    mean = np.bincount(kept, weights=gap, minlength=total)[fitted] / n
    mean_log = np.bincount(kept, weights=np.log(gap), minlength=total)[fitted] / n
    return fit_continuous(n, mean, mean_log)


def _nullable(values: np.ndarray) -> pa.Array:
    return pa.array(values, mask=~np.isfinite(values))


def windows_table(
    cells: Cells, calendar: Calendar, windows: Windows, gaps: np.ndarray, fits: dict[str, GammaFit]
) -> pa.Table:
    """Table gamma_windows: every window of every cell, once for each estimator.

    Args:
        cells: names of the cells.
        calendar: the days.
        windows: the windows.
        gaps: gaps of each window, shape (windows,).
        fits: of all windows by estimator; nan where there is none.
    """
    total = len(windows.requests)
    number = np.arange(total)
    labels = cells.labels
    cell = number // (calendar.days * windows.per_day)
    day = number // windows.per_day % calendar.days
    parts = []
    for estimator, found in fits.items():
        with np.errstate(divide="ignore", invalid="ignore"):
            columns = {
                "service": pa.array([service for service, _ in labels], pa.string()).take(pa.array(cell)),
                "model": pa.array([model for _, model in labels], pa.string()).take(pa.array(cell)),
                "day": day + 1,
                "weekday": calendar.weekdays[day],
                "window_s": windows.offset_s + (number % windows.per_day) * float(windows.width_s),
                "requests": windows.requests,
                "gaps": gaps,
                "estimator": pa.array([estimator], pa.string()).take(pa.array(np.zeros(total, dtype=np.int64))),
                "rate_per_s": windows.requests / windows.width_s,
                "alpha": _nullable(found.alpha),
                "alpha_low": _nullable(found.low),
                "alpha_high": _nullable(found.high),
                "beta_scale_s": _nullable(found.beta),
                "beta_rate_per_s": _nullable(1 / found.beta),
                "cv": _nullable(1 / np.sqrt(found.alpha)),
                "log_likelihood": _nullable(found.log_likelihood),
                "converged": found.converged,
            }
        parts.append(pa.table(columns))
    return pa.concat_tables(parts)


def profile_table(
    cells: Cells, calendar: Calendar, windows: Windows, found: GammaFit, hours: tuple[float, float]
) -> dict[str, npt.ArrayLike]:
    """Columns of gamma_profile: medians and quartiles over the workdays, by time of day within the active hours.

    Args:
        cells: names of the cells.
        calendar: the days, with at least one workday.
        windows: the windows.
        found: fits of all windows; only converged ones count.
        hours: from, to (exclusive) [h]; a window counts if it lies within them.

    Raises:
        UserError: there is no workday, or no window within the hours.
    """
    workdays = np.flatnonzero(calendar.workdays)
    start = windows.offset_s + np.arange(windows.per_day) * windows.width_s
    inside = np.flatnonzero((start >= hours[0] * 3600) & (start + windows.width_s <= hours[1] * 3600))
    if not len(workdays) or not len(inside):
        raise UserError(
            f"settings: no workday in {calendar.days} days from {calendar.start}, or no window of {windows.width_s} s "
            f"in workday_hours {list(hours)}"
        )
    shape = (len(cells.labels), calendar.days, windows.per_day)

    def chosen(values: np.ndarray) -> np.ndarray:
        """Values by workday and (cell, window within the active hours): shape (workdays, rows)."""
        return values.reshape(shape)[:, workdays][:, :, inside].transpose(1, 0, 2).reshape(len(workdays), -1)

    columns: dict[str, npt.ArrayLike] = {
        "service": [service for service, _ in cells.labels for _ in inside],
        "model": [model for _, model in cells.labels for _ in inside],
        "window_s": np.tile(start[inside].astype(float), shape[0]),
        "width_s": np.full(shape[0] * len(inside), float(windows.width_s)),
        "windows": chosen(found.converged).sum(axis=0),
        "rate_per_s": chosen(windows.requests).mean(axis=0) / windows.width_s,
    }
    with np.errstate(divide="ignore", invalid="ignore"):
        quantities = {
            ("alpha", ""): found.alpha,
            ("beta_scale", "_s"): found.beta,
            ("beta_rate", "_per_s"): 1 / found.beta,
        }
    some = np.flatnonzero(columns["windows"])
    for (name, unit), values in quantities.items():
        quartiles = np.full((3, shape[0] * len(inside)), np.nan)
        quartiles[:, some] = np.nanquantile(chosen(values)[:, some], (0.25, 0.5, 0.75), axis=0)
        for part, row in zip((f"{name}_q1{unit}", f"{name}{unit}", f"{name}_q3{unit}"), quartiles, strict=True):
            columns[part] = _nullable(row)
    return columns


def summary_rows(
    cells: Cells, calendar: Calendar, windows: Windows, gaps: np.ndarray, least: int, fits: dict[str, GammaFit]
) -> list[dict[str, Any]]:
    """Rows of gamma_summary: every cell with requests, kind of day and estimator.

    Args:
        cells: names of the cells.
        calendar: the days.
        windows: the windows.
        gaps: gaps of each window, shape (windows,).
        least: windows with fewer gaps have no fit.
        fits: of all windows by estimator; nan where there is none.
    """
    shape = (len(cells.labels), calendar.days, windows.per_day)
    requests, gaps = windows.requests.reshape(shape), gaps.reshape(shape)
    workdays = calendar.workdays
    kinds = {"workday": workdays, "weekend": ~workdays, "all": np.ones(calendar.days, dtype=bool)}
    rows = []
    for number, (service, model) in enumerate(cells.labels):
        for kind, days in kinds.items():
            own = requests[number, days]
            if not own.sum():
                continue
            first = GammaFit(*(column.reshape(shape)[number, days].ravel() for column in fits["seconds"]))
            for estimator, found in fits.items():
                part = GammaFit(*(column.reshape(shape)[number, days].ravel() for column in found))
                fitted = part.converged
                both = fitted & first.converged
                row = {
                    "service": service,
                    "model": model,
                    "day_type": kind,
                    "estimator": estimator,
                    "width_s": float(windows.width_s),
                    "offset_s": float(windows.offset_s),
                    "resolution_s": windows.tick_s,
                    "windows": int((own > 0).sum()),
                    "few": int(((own > 0) & (gaps[number, days] < least)).sum()),
                    "fitted": int(fitted.sum()),
                    "rate_per_s": float(own.mean() / windows.width_s),
                }
                if fitted.any():
                    alpha, beta = part.alpha[fitted], part.beta[fitted]
                    row["alpha_q1"], row["alpha"], row["alpha_q3"] = _quantiles(alpha, 0.25, 0.5, 0.75)
                    row["beta_scale_s"] = float(np.median(beta))
                    row["beta_rate_per_s"] = float(np.median(1 / beta))
                    row["cv"] = float(np.median(alpha**-0.5))
                if both.any():
                    ratio = part.alpha[both] / first.alpha[both]
                    row["alpha_ratio_p05"], row["alpha_ratio"], row["alpha_ratio_p95"] = _quantiles(
                        ratio, 0.05, 0.5, 0.95
                    )
                    inside = (part.alpha[both] >= first.low[both]) & (part.alpha[both] <= first.high[both])
                    row["inside_share"] = float(inside.mean())
                rows.append(row)
    return rows


def _quantiles(values: np.ndarray, *shares: float) -> list[float]:
    return [float(value) for value in np.quantile(values, shares)]


def counts_table(cells: Cells, calendar: Calendar, windows: Windows) -> dict[str, npt.ArrayLike]:
    """Columns of gamma_counts, by moments over the workdays: every cell and window of the day with requests.

    Args:
        cells: names of the cells.
        calendar: the days, with at least one workday.
        windows: the windows.
    """
    shape = (len(cells.labels), calendar.days, windows.per_day)
    requests = windows.requests.reshape(shape)[:, calendar.workdays].astype(float)
    mean = requests.mean(axis=1)
    cell, window = np.nonzero(mean)
    days = requests.shape[1]
    variance = requests.var(axis=1, ddof=1) if days > 1 else np.full(mean.shape, np.nan)
    mean, variance = mean[cell, window], variance[cell, window]
    with np.errstate(divide="ignore", invalid="ignore"):
        alpha, scale, rate = mean**2 / variance, np.where(variance > 0, variance / mean, np.nan), mean / variance
    return {
        "service": [cells.labels[number][0] for number in cell],
        "model": [cells.labels[number][1] for number in cell],
        "window_s": windows.offset_s + window * float(windows.width_s),
        "width_s": np.full(len(cell), float(windows.width_s)),
        "days": np.full(len(cell), days),
        "mean": mean,
        "variance": _nullable(variance),
        "alpha": _nullable(alpha),
        "beta_scale": _nullable(scale),
        "beta_rate": _nullable(rate),
    }


def family_rows(
    cells: Cells, per_cell: int, fitted: np.ndarray, gaps: Gaps, tested: int, seed: int
) -> list[dict[str, Any]]:
    """Rows of gamma_families.

    All families are fitted by the same likelihood of whole seconds, so their AICs compare. Pareto holds the
    exponential as a limit, so it is never below it. Only windows in which Gamma, Weibull and log-normal all have an
    optimum count. The goodness-of-fit test is made on `tested` of them, drawn at random, for each family; its power is
    measured against log-normal for Gamma, against Gamma for the others.

    Args:
        cells: names of the cells.
        per_cell: windows of each cell.
        fitted: numbers of the windows that have enough gaps, rising, shape (windows,).
        gaps: their gaps.
        tested: windows of each cell that are tested.
        seed: root seed.
    """
    fits = {family.name: fit(family, gaps) for family in FAMILIES}
    value = {name: found.value.copy() for name, found in fits.items()}
    value[PARETO.name] = np.fmax(value[PARETO.name], value[EXPONENTIAL.name])
    aic = np.stack([2 * family.free - 2 * value[family.name] for family in FAMILIES])
    compared = np.isfinite(aic).all(axis=0)
    for family in FAMILIES:
        if family is not PARETO:
            compared &= fits[family.name].converged
    rows = []
    own_of = [np.flatnonzero(compared & (fitted // per_cell == number)) for number in range(len(cells.labels))]
    total = sum(min(tested, len(own)) for own in own_of) * len(FAMILIES)
    done = 0
    with progress("Goodness of fit", total, "tests") as report:
        for number, (service, model) in enumerate(cells.labels):
            own = own_of[number]
            if not len(own):
                continue
            best = np.argmin(aic[:, own], axis=0)
            rng = generator(seed, "characterise", "goodness", service, model)
            drawn = np.sort(rng.choice(own, min(tested, len(own)), replace=False))
            one = [gaps.take(np.array([window])) for window in drawn]
            for place, family in enumerate(FAMILIES):
                other = LOGNORMAL if family is GAMMA else GAMMA
                tests = []
                for window, sample in zip(drawn, one, strict=True):
                    tests.append(
                        goodness(
                            family,
                            sample,
                            fits[family.name].parameters[window],
                            (other, fits[other.name].parameters[window]),
                            RESAMPLES,
                            rng,
                        )
                    )
                    done += 1
                    report(done)
                rows.append(
                    {
                        "service": service,
                        "model": model,
                        "family": family.name,
                        "windows": len(own),
                        "aic_best_share": float((best == place).mean()),
                        "aic_delta_median": float(np.median(aic[place, own] - aic[0, own])),
                        "test_pass_share": float(np.mean([test.p_value > 0.05 for test in tests])) if tests else None,
                        "test_power": float(np.mean([test.power for test in tests])) if tests else None,
                        "power_against": other.name if tests else None,
                    }
                )
    return rows


def fit_windows(trace: Path, settings: dict[str, Any], outputs: dict[str, Path]) -> None:
    """Write the five tables.

    Args:
        trace: trace.parquet.
        settings: `start`, `days`, `seed`; `window_s` and `offset_s` as `cut`; `resolution_s`, what timestamps are known
            to [s], or 'detected'; `minimum_gaps` (windows with fewer have no fit); `estimator` (of
            the profile); `workday_hours` (of the profile); `bootstrap_windows` (windows of each service and model that
            get the goodness-of-fit test; 0 for none).
        outputs: path of each table, by contract name.

    Raises:
        UserError: the trace breaks its contract or leaves the calendar, or a setting is impossible.
    """
    if settings["estimator"] not in ESTIMATORS:
        raise UserError(f"settings: estimator is {settings['estimator']!r}, expected one of {', '.join(ESTIMATORS)}")
    if settings["minimum_gaps"] < 2:
        raise UserError(f"settings: minimum_gaps is {settings['minimum_gaps']!r}, expected at least 2")
    calendar = Calendar.of(settings["start"], settings["days"])
    cells = read_cells(trace, calendar=calendar)
    tick_s = settings["resolution_s"]
    if tick_s == "detected":
        tick_s = resolution(cells.time_s)
        print(f"timestamps are taken as known to {tick_s:g} s (detected)", file=sys.stderr)
    windows, axis = cut(cells, calendar, settings["window_s"], settings["offset_s"], float(tick_s))
    total = len(windows.requests)
    count = np.bincount(windows.window, minlength=total)
    enough = count >= settings["minimum_gaps"]
    fitted = np.flatnonzero(enough)
    gaps = Gaps.of(total, windows.window, windows.gap).take(fitted)

    def everywhere(found: GammaFit) -> GammaFit:
        """The fits of `fitted`, in ticks, as fits of all windows, in seconds."""
        found = found._replace(beta=found.beta * windows.tick_s)
        columns = [np.full(total, np.nan) for _ in range(5)]
        for column, values in zip(columns, found, strict=False):
            column[fitted] = values
        converged = np.zeros(total, dtype=bool)
        converged[fitted] = found.converged
        return GammaFit(columns[0], columns[1], columns[2], columns[3], columns[4], converged)

    rng = generator(settings["seed"], "characterise", "jitter")
    fits = {
        "seconds": everywhere(fit_seconds(gaps)),
        "jitter": everywhere(fit_jittered(axis, round(windows.width_s / windows.tick_s), fitted, rng)),
        "moments": everywhere(fit_moments(gaps)),
    }
    GAMMA_WINDOWS.write(windows_table(cells, calendar, windows, count, fits), outputs["gamma_windows"])
    hours = settings["workday_hours"]
    profile = profile_table(cells, calendar, windows, fits[settings["estimator"]], (hours[0], hours[1]))
    GAMMA_PROFILE.write(profile, outputs["gamma_profile"])
    summary = summary_rows(cells, calendar, windows, count, settings["minimum_gaps"], fits)
    GAMMA_SUMMARY.write(pa.Table.from_pylist(summary, schema=GAMMA_SUMMARY.schema), outputs["gamma_summary"])
    GAMMA_COUNTS.write(counts_table(cells, calendar, windows), outputs["gamma_counts"])
    rows = family_rows(
        cells, calendar.days * windows.per_day, fitted, gaps, settings["bootstrap_windows"], settings["seed"]
    )
    GAMMA_FAMILIES.write(pa.Table.from_pylist(rows, schema=GAMMA_FAMILIES.schema), outputs["gamma_families"])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add_settings(parser)
    parser.add_argument("--trace", type=Path, required=True, help="trace.parquet")
    for name in TABLES:
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, required=True, help="table to write")


def run(args: argparse.Namespace) -> None:
    """Run the verb."""
    fit_windows(args.trace, args.settings, {name: getattr(args, name) for name in TABLES})
