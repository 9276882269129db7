"""Mirrored streams (Fig. 16): the trace's average workday at any scale.

Each window of the profile (20 minutes) is compressed to `compressed_s` seconds. alpha(t) stays as fitted; beta(t) is
rescaled by one common factor, so that the mean rate of the stream named by `scaled_to` equals the warm-up's. Every
stream shares that factor, so an API stream keeps its relative intensity.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from burstbench.plan.checks import PlanError

Real = NDArray[np.float64]


@dataclass(frozen=True)
class Windows:
    """The windows of a mirrored stream.

    Attributes:
        alpha: Gamma shape, shape (n,).
        scale: Gamma scale of the gaps as they are sent [s], infinite where the stream is silent, shape (n,).
        seconds: length of each as it is sent [s].
        record: what the plan's record tells of them.
    """

    alpha: Real
    scale: Real
    seconds: float
    record: dict[str, Any]


@dataclass(frozen=True)
class _Day:
    """One service and model of the profile: start, rate and fit of each window; NaN where there is no fit."""

    start: Real
    rate: Real
    alpha: Real
    scale: Real
    width: float

    @property
    def fitted(self) -> NDArray[np.bool_]:
        return np.isfinite(self.alpha) & np.isfinite(self.scale) & (self.alpha > 0) & (self.scale > 0)


def windows(profile: pa.Table, mirror: dict[str, Any], warmup_rate: float, where: str) -> Windows:
    """Scale the windows of a profile to a server.

    A window without a fit takes alpha (kind "scale": and beta) of the fitted window nearest in time, the earlier of two
    equally near; the record counts them. A window without requests (kind "rate": rate 0) is silent.

    Args:
        profile: table of the contract GAMMA_PROFILE.
        mirror: a valid `mirror` of a phase. Kind "rate" (default): the stream's rate in each window is the profile's
            `rate_per_s` times the common factor, beta = 1 / (alpha rate). Kind "scale": beta is the profile's median
            scale divided by the common factor, as the dataset's example client does with its fixed factor of 30.61.
        warmup_rate: what the mean rate of `scaled_to` becomes [requests/s].
        where: key path of `mirror`, for messages.

    Raises:
        PlanError: the profile lacks the stream, has gaps between its windows, no fit at all, or no requests.
    """
    kind = mirror.get("kind", "rate")
    stream = _day(profile, mirror["service"], mirror["model"], f"{where}.service")
    reference = _day(profile, mirror["scaled_to"], mirror["model"], f"{where}.scaled_to")
    if not np.array_equal(stream.start, reference.start) or stream.width != reference.width:
        raise PlanError(f"{where}.scaled_to: its windows in gamma_profile are not those of {mirror['service']!r}")
    mean_rate = float(np.mean(_rates(reference, kind, f"{where}.scaled_to")))
    if mean_rate <= 0:
        raise PlanError(f"{where}.scaled_to: {mirror['scaled_to']!r} has no requests in gamma_profile")
    factor = warmup_rate / mean_rate
    rate = _rates(stream, kind, f"{where}.service") * factor
    source = _nearest_fitted(stream, f"{where}.service")
    alpha = stream.alpha[source]
    silent = rate <= 0
    scale = 1.0 / (alpha * np.where(silent, 1.0, rate))
    scale[silent] = np.inf
    seconds = float(mirror["compressed_s"])
    return Windows(
        alpha,
        scale,
        seconds,
        {
            "kind": kind,
            "windows": len(alpha),
            "windows_from_s": float(stream.start[0]),
            "window_s": stream.width,
            "compressed_s": seconds,
            "rate_factor": factor,
            "rate_of_scaled_to_in_trace_per_s": mean_rate,
            "windows_without_fit": int((~stream.fitted).sum()),
            "rule_without_fit": "alpha of the fitted window nearest in time, the earlier of two"
            if kind == "rate"
            else "alpha and beta of the fitted window nearest in time, the earlier of two",
            "windows_silent": int(silent.sum()),
        },
    )


def _day(profile: pa.Table, service: str, model: str, where: str) -> _Day:
    chosen = pc.and_(pc.equal(profile.column("service"), service), pc.equal(profile.column("model"), model))
    rows = profile.filter(chosen).sort_by("window_s")
    if rows.num_rows == 0:
        pairs = sorted(set(zip(profile["service"].to_pylist(), profile["model"].to_pylist(), strict=True)))
        found = ", ".join(f"{s} {m}" for s, m in pairs)
        raise PlanError(f"{where}: '{service} {model}' is not in gamma_profile, which holds: {found or 'nothing'}")
    start, width = rows["window_s"].to_numpy(), rows["width_s"].to_numpy()
    gaps = np.flatnonzero((np.diff(start) != width[:-1]) | (np.diff(width) != 0))
    if gaps.size or width[0] <= 0:
        place = int(gaps[0]) + 1 if gaps.size else 0
        raise PlanError(
            f"{where}: the windows of '{service} {model}' in gamma_profile are not of one width, each beginning where "
            f"the one before ends: see the window that starts at {start[place]:g} s and is {width[place]:g} s wide"
        )

    def floats(name: str) -> Real:
        return pc.fill_null(rows[name], float("nan")).to_numpy()

    return _Day(start, rows["rate_per_s"].to_numpy(), floats("alpha"), floats("beta_scale_s"), float(width[0]))


def _rates(day: _Day, kind: str, where: str) -> Real:
    """Return the request rate of each window before scaling [1/s]."""
    if kind == "rate":
        return day.rate
    source = _nearest_fitted(day, where)
    return 1.0 / (day.alpha[source] * day.scale[source])


def _nearest_fitted(day: _Day, where: str) -> NDArray[np.int64]:
    """Return, for each window, the fitted window nearest to it: itself where it has a fit."""
    fitted = np.flatnonzero(day.fitted)
    if not fitted.size:
        raise PlanError(f"{where}: no window of it has a fit in gamma_profile")
    # argmin takes the first, that is the earlier, of two equally near.
    return fitted[np.argmin(np.abs(np.arange(len(day.start))[:, None] - fitted[None, :]), axis=1)]
