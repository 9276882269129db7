"""`burstbench characterise gamma`: Gamma fits of the gaps, window by window (Fig. 6)."""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from burstbench.characterise.cells import DAY_S, Calendar, Cells, read_cells
from burstbench.cli import add_settings
from burstbench.contracts import GAMMA_FAMILIES, GAMMA_PROFILE, GAMMA_WINDOWS
from burstbench.errors import UserError
from burstbench.progress import progress
from burstbench.seeds import generator
from burstbench.stats.gamma import GammaFit, fit_continuous, fit_moments, fit_seconds, goodness
from burstbench.stats.seconds import EXPONENTIAL, FAMILIES, GAMMA, LOGNORMAL, PARETO, Gaps, fit

ESTIMATORS = ("seconds", "jitter", "moments")
# Samples behind each goodness-of-fit test.
RESAMPLES = 99


class Windows(NamedTuple):
    """The windows of all cells: number = (cell · days + day) · windows a day + window within the day.

    Attributes:
        width_s: width of a window.
        per_day: windows of a day.
        requests: of each window, shape (windows,).
        window: of each gap, shape (n,). A gap belongs to a window if both of its requests lie in it.
        gap: in whole seconds, shape (n,).
    """

    width_s: int
    per_day: int
    requests: np.ndarray
    window: np.ndarray
    gap: np.ndarray


def cut(cells: Cells, calendar: Calendar, width_s: int) -> tuple[Windows, np.ndarray]:
    """Cut every cell's requests into windows.

    Args:
        cells: the trace.
        calendar: its days.
        width_s: width of a window [s], a divisor of a day.

    Returns:
        The windows, and the requests of all cells on one axis, the calendars of the cells end to end: rising whole
        seconds of shape (n,). Window k of all is [k · width_s, (k + 1) · width_s) on it.

    Raises:
        UserError: the width does not divide a day, or a timestamp is not a whole second.
    """
    if width_s < 1 or DAY_S % width_s:
        raise UserError(f"settings: window_s is {width_s!r}, expected a divisor of a day ({DAY_S} s)")
    stamps = cells.time_s.astype(np.int64)
    broken = np.flatnonzero(stamps != cells.time_s)
    if len(broken):
        raise UserError(
            f"trace: column 'time_s', row {broken[0]}: found {cells.time_s[broken[0]]:.10g} s, expected whole seconds: "
            "the fits treat a timestamp as known to one second"
        )
    axis = np.sort(cells.cell * (calendar.days * DAY_S) + stamps)
    window = axis // width_s
    inside = window[1:] == window[:-1]
    per_day = DAY_S // width_s
    requests = np.bincount(window, minlength=len(cells.labels) * calendar.days * per_day)
    return Windows(width_s, per_day, requests, window[1:][inside], np.diff(axis)[inside]), axis


def fit_jittered(axis: np.ndarray, width_s: int, fitted: np.ndarray, rng: np.random.Generator) -> GammaFit:
    """Spread each timestamp uniformly over its second and fit the gaps as if they were exact.

    Args:
        axis: requests as `cut` gives them, shape (n,).
        width_s: width of a window [s].
        fitted: numbers of the windows to fit.
        rng: for the jitter.

    Returns:
        One row for each of `fitted`.
    """
    # A request stays in its second, so it stays in its window.
    spread = np.sort(axis + rng.random(len(axis)))
    window = (spread // width_s).astype(np.int64)
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
                "window_s": (number % windows.per_day) * float(windows.width_s),
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
    start = np.arange(windows.per_day) * windows.width_s
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


def fit_windows(trace: Path, settings: dict[str, Any], windows_file: Path, profile: Path, families: Path) -> None:
    """Write the three tables.

    Args:
        trace: trace.parquet, timestamps in whole seconds.
        settings: `start`, `days`, `seed`; `window_s`; `minimum_gaps` (windows with fewer have no fit); `estimator` (of
            the profile); `workday_hours` (of the profile); `bootstrap_windows` (windows of each service and model that
            get the goodness-of-fit test; 0 for none).
        windows_file: gamma_windows.parquet.
        profile: gamma_profile.parquet.
        families: gamma_families.parquet.

    Raises:
        UserError: the trace breaks its contract or leaves the calendar, or a setting is impossible.
    """
    if settings["estimator"] not in ESTIMATORS:
        raise UserError(f"settings: estimator is {settings['estimator']!r}, expected one of {', '.join(ESTIMATORS)}")
    if settings["minimum_gaps"] < 2:
        raise UserError(f"settings: minimum_gaps is {settings['minimum_gaps']!r}, expected at least 2")
    calendar = Calendar.of(settings["start"], settings["days"])
    cells = read_cells(trace, calendar=calendar)
    windows, axis = cut(cells, calendar, settings["window_s"])
    total = len(windows.requests)
    count = np.bincount(windows.window, minlength=total)
    enough = count >= settings["minimum_gaps"]
    fitted = np.flatnonzero(enough)
    gaps = Gaps.of(total, windows.window, windows.gap).take(fitted)

    def everywhere(found: GammaFit) -> GammaFit:
        """The fits of `fitted` as fits of all windows."""
        columns = [np.full(total, np.nan) for _ in range(5)]
        for column, values in zip(columns, found, strict=False):
            column[fitted] = values
        converged = np.zeros(total, dtype=bool)
        converged[fitted] = found.converged
        return GammaFit(columns[0], columns[1], columns[2], columns[3], columns[4], converged)

    rng = generator(settings["seed"], "characterise", "jitter")
    fits = {
        "seconds": everywhere(fit_seconds(gaps)),
        "jitter": everywhere(fit_jittered(axis, windows.width_s, fitted, rng)),
        "moments": everywhere(fit_moments(gaps)),
    }
    GAMMA_WINDOWS.write(windows_table(cells, calendar, windows, count, fits), windows_file)
    hours = settings["workday_hours"]
    GAMMA_PROFILE.write(
        profile_table(cells, calendar, windows, fits[settings["estimator"]], (hours[0], hours[1])), profile
    )
    rows = family_rows(
        cells, calendar.days * windows.per_day, fitted, gaps, settings["bootstrap_windows"], settings["seed"]
    )
    GAMMA_FAMILIES.write(pa.Table.from_pylist(rows, schema=GAMMA_FAMILIES.schema), families)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add_settings(parser)
    parser.add_argument("--trace", type=Path, required=True, help="trace.parquet")
    for name in ("gamma-windows", "gamma-profile", "gamma-families"):
        parser.add_argument(f"--{name}", type=Path, required=True, help="table to write")


def run(args: argparse.Namespace) -> None:
    """Run the verb."""
    fit_windows(args.trace, args.settings, args.gamma_windows, args.gamma_profile, args.gamma_families)
