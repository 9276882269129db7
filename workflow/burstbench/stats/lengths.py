"""Histograms, fits, tests and relations of token lengths, for the trace and for the runs alike."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from burstbench import contracts
from burstbench.errors import UserError
from burstbench.stats.intervals import Z95, wilson

# The dip test's table of critical values ends here; longer samples are thinned to it, and `n` says so.
DIP_SAMPLE = 72_000
# Quantile lines rest on at most so many requests.
QUANTILE_SAMPLE = 20_000
# A response counts as near the limit from this share of the source's longest response on.
NEAR_LIMIT = 0.9


class Fit(NamedTuple):
    """A family fitted to lengths on 1 … n_max.

    Attributes:
        parameters: by name; empty where the optimum is the Zipf law itself, the border of the family.
        free: number of parameters, for AIC.
        log_p: log-probability of each length 1 … n_max, shape (n_max,).
    """

    parameters: dict[str, float]
    free: int
    log_p: np.ndarray


def length_tables(
    source: str,
    request_tokens: np.ndarray,
    response_tokens: np.ndarray,
    settings: Mapping[str, Any],
    rng: np.random.Generator,
) -> dict[str, pa.Table]:
    """The five length tables of one source.

    Args:
        source: 'trace <service> <model>' or 'run <model> <gpu>'.
        request_tokens: of the answered requests, shape (n,), whole numbers. A request of 0 tokens is in the histogram
            and the relations, not in the fits.
        response_tokens: of the same requests, shape (n,).
        settings: `request_bin_tokens` and `response_bin_tokens` (width of the bins of Figs. 8, 9 [tokens]),
            `coarse_request_bins` (edges of Fig. 9 [tokens]; requests outside them are in none of its bins).
        rng: for the jitter and the thinning of the dip test.

    Returns:
        Tables by contract name: length_counts, length_fits, length_tests, response_by_request, response_bins; all
        without rows if no request was answered. A statistic that its data do not define (fewer than ten distinct
        lengths, say) has no row.

    Raises:
        UserError: lengths are negative or not in pairs, or a bin's width is not positive.
    """
    request = np.asarray(request_tokens).astype(np.int64)
    response = np.asarray(response_tokens).astype(np.int64)
    if request.shape != response.shape or request.ndim != 1:
        raise UserError(f"{source}: {request.shape} request lengths and {response.shape} response lengths, not pairs")
    if request.size and min(request.min(), response.min()) < 0:
        raise UserError(f"{source}: a length is negative; expected tokens of at least 0")
    for name in ("request_bin_tokens", "response_bin_tokens"):
        if settings[name] <= 0:
            raise UserError(f"settings: {name} is {settings[name]!r}, expected more than 0")
    edges = np.asarray(settings["coarse_request_bins"], dtype=np.int64)
    if len(edges) < 2 or np.any(np.diff(edges) <= 0):
        raise UserError(f"settings: coarse_request_bins is {edges.tolist()}, expected at least two rising edges")
    counts, fits, tests = [], [], []
    for quantity, values in (("request", request), ("response", response)):
        requests = np.bincount(values)
        tokens = np.flatnonzero(requests)
        requests = requests[tokens]
        counts.append(
            _table(
                contracts.LENGTH_COUNTS,
                {
                    "source": [source] * len(tokens),
                    "quantity": [quantity] * len(tokens),
                    "tokens": tokens,
                    "requests": requests,
                },
            )
        )
        fits += [{"source": source, "quantity": quantity, **row} for row in fit_rows(tokens, requests)]
    if len(request):
        tests = [{"source": source, **row} for row in statistic_rows(request, response, rng)]
    return {
        "length_counts": pa.concat_tables(counts).combine_chunks(),
        "length_fits": pa.Table.from_pylist(fits, schema=contracts.LENGTH_FITS.schema),
        "length_tests": pa.Table.from_pylist(tests, schema=contracts.LENGTH_TESTS.schema),
        "response_by_request": _table(
            contracts.RESPONSE_BY_REQUEST, by_request(source, request, response, settings["request_bin_tokens"])
        ),
        "response_bins": _table(
            contracts.RESPONSE_BINS,
            in_coarse_bins(source, request, response, edges, settings["response_bin_tokens"]),
        ),
    }


def _table(contract: contracts.Contract, columns: Mapping[str, Any]) -> pa.Table:
    arrays = [pa.array(columns[field.name], type=field.type) for field in contract.schema]
    return pa.Table.from_arrays(arrays, schema=contract.schema)


# Fits -----------------------------------------------------------------------------------------------------------------


def _maximise(features: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Coefficients c for which p ∝ exp(features · c) has the given mean features: the maximum likelihood.

    Args:
        features: shape (k, n_max), feature of each length, scaled to order 1.
        mean: shape (k,), mean features of the data.

    Returns:
        Shape (k,). The log-likelihood is concave; damped Newton finds its only optimum.
    """
    coefficients = np.zeros(len(features))

    def state(c: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        exponent = c @ features
        top = exponent.max()
        p = np.exp(exponent - top)
        norm = p.sum()
        p /= norm
        expected = features @ p
        centred = features - expected[:, None]
        return float(c @ mean - top - math.log(norm)), mean - expected, (centred * p) @ centred.T

    value, gradient, curvature = state(coefficients)
    for _ in range(200):
        step = np.linalg.solve(curvature + 1e-14 * np.trace(curvature) * np.eye(len(mean)), gradient)
        gain = float(gradient @ step)
        if gain < 1e-18:
            break
        size = 1.0
        while size > 1e-12:
            new_value, new_gradient, new_curvature = state(coefficients + size * step)
            if new_value >= value + 1e-4 * size * gain or (gain < 1e-12 and new_value >= value - 1e-15):
                break
            size /= 2
        else:
            break
        coefficients = coefficients + size * step
        value, gradient, curvature = new_value, new_gradient, new_curvature
    return coefficients


def fit_lengths(tokens: np.ndarray, requests: np.ndarray) -> dict[str, Fit]:
    """Maximum-likelihood fits on the support 1 … n_max, n_max the longest length.

    All four families are of the form p(n) ∝ exp(c · features(n)), each with at most two features:

    - zipf: p ∝ n^-theta (truncated zeta),
    - exponential: p ∝ exp(-rate · n),
    - powerlaw_cutoff: p ∝ n^-theta · exp(-rate · n), rate ≥ 0,
    - lognormal: p ∝ exp(-(ln n - mu)² / (2 sigma²)) / n, the density at whole numbers, normalised on the support.

    The last two hold the Zipf law as a border (rate = 0, sigma = ∞). Where the likelihood rises beyond that border,
    the optimum is the Zipf law, and `parameters` is empty.

    Args:
        tokens: distinct lengths, ascending, each at least 1, shape (k,), at least three.
        requests: how often each occurs, shape (k,).

    Returns:
        A fit by family.

    Raises:
        ValueError: fewer than three distinct lengths (two-parameter families have no optimum then), or a length of 0.
    """
    if len(tokens) < 3 or tokens[0] < 1:
        raise ValueError("a fit needs at least three distinct lengths of at least 1 token")
    support = np.arange(1, int(tokens[-1]) + 1, dtype=float)
    n = requests.sum()
    logs = np.log(support)
    columns = {"log": logs, "log2": logs**2, "n": support}
    scaled, scales = {}, {}
    for name, column in columns.items():
        at_data = column[tokens - 1]
        centre = float(at_data @ requests) / n
        scales[name] = math.sqrt(float((at_data - centre) ** 2 @ requests) / n)
        scaled[name] = (column - centre) / scales[name]

    def fit(*names: str) -> tuple[list[float], np.ndarray]:
        # The features are centred on the data's mean, so the mean to match is 0.
        coefficients = _maximise(np.stack([scaled[name] for name in names]), np.zeros(len(names)))
        raw = [float(c / scales[name]) for c, name in zip(coefficients, names, strict=True)]
        exponent = sum(c * columns[name] for c, name in zip(raw, names, strict=True))
        exponent = exponent - exponent.max()
        return raw, exponent - math.log(np.exp(exponent).sum())

    (slope,), log_p = fit("log")
    zipf = Fit({"theta": -slope}, 1, log_p)
    (rate,), log_p = fit("n")
    exponential = Fit({"rate": -rate}, 1, log_p)
    (slope, rate), log_p = fit("log", "n")
    cutoff = Fit({"theta": -slope, "rate": -rate}, 2, log_p) if rate < 0 else Fit({}, 2, zipf.log_p)
    (slope, square), log_p = fit("log", "log2")
    if square < 0:
        variance = -1 / (2 * square)
        lognormal = Fit({"mu": (slope + 1) * variance, "sigma": math.sqrt(variance)}, 2, log_p)
    else:
        lognormal = Fit({}, 2, zipf.log_p)
    return {"zipf": zipf, "lognormal": lognormal, "exponential": exponential, "powerlaw_cutoff": cutoff}


def fit_rows(tokens: np.ndarray, requests: np.ndarray) -> Iterator[dict[str, Any]]:
    """Rows of length_fits, without source and quantity.

    The ratio to Zipf is tested with Vuong's test (1989, Econometrica 57:307) for log-normal and exponential, and, as
    Zipf is nested in it, with the likelihood-ratio test of one degree of freedom for the power law with cut-off
    (the choice of Clauset, Shalizi and Newman 2009, SIAM Review 51:661).

    Args:
        tokens: distinct lengths, shape (k,); a length of 0 is left out here.
        requests: how often each occurs, shape (k,).
    """
    some = tokens >= 1
    tokens, requests = tokens[some], requests[some]
    if len(tokens) < 3:
        return
    n, n_max = int(requests.sum()), int(tokens[-1])
    fits = fit_lengths(tokens, requests)
    empirical = np.zeros(n_max)
    empirical[tokens - 1] = requests / n
    empirical = np.cumsum(empirical)
    zipf_at_data = fits["zipf"].log_p[tokens - 1]
    for family, fit in fits.items():
        at_data = fit.log_p[tokens - 1]
        likelihood = float(at_data @ requests)
        difference = at_data - zipf_at_data
        ratio = float(difference @ requests)
        if family == "zipf":
            p_value = None
        elif family == "powerlaw_cutoff":
            p_value = math.erfc(math.sqrt(max(ratio, 0.0)))  # P(chi² of one degree > 2 · ratio)
        else:
            spread = math.sqrt(float((difference - ratio / n) ** 2 @ requests))
            p_value = math.erfc(abs(ratio) / spread / math.sqrt(2)) if spread > 0 else 1.0
        yield {
            "family": family,
            "n": n,
            "n_max": n_max,
            "parameters": json.dumps(fit.parameters, sort_keys=True),
            "log_likelihood": likelihood,
            "aic": 2 * fit.free - 2 * likelihood,
            "ratio": ratio,
            "p_value": p_value,
            "ks": float(np.abs(np.cumsum(np.exp(fit.log_p)) - empirical).max().clip(0, 1)),
        }


# Tests and relations --------------------------------------------------------------------------------------------------


def dip(values: np.ndarray, rng: np.random.Generator) -> tuple[float, float, int]:
    """Hartigan's dip test of unimodality on whole numbers.

    Each value is spread over its unit, n - 0.5 … n + 0.5: ties would count as modes otherwise. More than 72,000 values
    are thinned at random to 72,000, where the test's table ends.

    Args:
        values: shape (n,), n at least 4, whole numbers.
        rng: for the spread and the thinning.

    Returns:
        The dip (0 … 0.25), the p-value of one mode (interpolated in the table of Maechler's diptest), and the number
        of values used.
    """
    from diptest import diptest

    if len(values) > DIP_SAMPLE:
        values = rng.choice(values, DIP_SAMPLE, replace=False)
    statistic, p_value = diptest(values + rng.uniform(-0.5, 0.5, len(values)))
    return float(statistic), float(p_value), len(values)


def _median(values: np.ndarray) -> tuple[float, float, float]:
    """The median with its distribution-free interval from order statistics (normal approximation of their ranks)."""
    n = len(values)
    upto = np.cumsum(np.bincount(values))
    half = Z95 * math.sqrt(n) / 2
    ranks = [max(math.floor(n / 2 - half), 0), (n - 1) // 2, n // 2, min(math.ceil(n / 2 + half), n - 1)]
    low, left, right, high = np.searchsorted(upto, ranks, side="right")
    return (left + right) / 2, float(low), float(high)


def statistic_rows(request: np.ndarray, response: np.ndarray, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Rows of length_tests, without the source.

    Statistics: `request_mean`, `request_median`, `response_mean`, `response_median` [tokens]; `response_max` [tokens];
    `share_near_limit`, the share of responses of at least 90 % of the longest, and `share_at_limit`, of exactly the
    longest (Wilson intervals); `response_dip` and `response_log_dip` (the dip of the lengths, and of their logarithms:
    a test may see two modes on one axis only); `pearson`, `spearman`, `slope` [tokens per token] and `intercept` of
    responses on requests; `piecewise_break` [tokens], `piecewise_slope_below`, `piecewise_slope_above`, and
    `piecewise_explained` (share of the straight line's residual sum that the break removes); `quantile_slope_05`, `_50`
    and `_95`, slopes of the lines of quantiles [tokens per token], on at most 20,000 requests drawn at random.

    Args:
        request: lengths of answered requests, shape (n,), n at least 1 [tokens].
        response: lengths of their responses, shape (n,) [tokens].
        rng: for the dip test and the draw of the quantile lines.
    """
    from burstbench.stats import relations

    n = len(request)

    def row(
        statistic: str,
        value: float,
        low: float = math.nan,
        high: float = math.nan,
        p_value: float = math.nan,
        used: int = n,
    ) -> dict[str, Any]:
        numbers = {"value": value, "low": low, "high": high, "p_value": p_value}
        return {
            "statistic": statistic,
            **{name: None if math.isnan(number) else float(number) for name, number in numbers.items()},
            "n": used,
        }

    for name, values in (("request", request), ("response", response)):
        mean = float(values.mean())
        error = Z95 * float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
        yield row(f"{name}_mean", mean, mean - error, mean + error)
        yield row(f"{name}_median", *_median(values))
    longest = int(response.max())
    yield row("response_max", longest)
    for statistic, hits in (
        ("share_near_limit", int((response >= NEAR_LIMIT * longest).sum())),
        ("share_at_limit", int((response == longest).sum())),
    ):
        yield row(statistic, hits / n, *wilson(hits, n))
    if n >= 4 and response.min() < longest:
        value, p_value, used = dip(response, rng)
        yield row("response_dip", value, p_value=p_value, used=used)
        value, p_value, used = log_dip(response, rng)
        yield row("response_log_dip", value, p_value=p_value, used=used)
    if n >= 4 and np.ptp(request) > 0 and np.ptp(response) > 0:
        yield row("pearson", *relations.pearson(request, response))
        yield row("spearman", *relations.spearman(request, response))
        slope, intercept = relations.line(request, response)
        yield row("slope", *slope)
        yield row("intercept", *intercept)
        if np.count_nonzero(np.bincount(request)) >= 10:
            broken = relations.piecewise(request, response)
            yield row("piecewise_break", broken.break_at)
            yield row("piecewise_slope_below", *broken.below)
            yield row("piecewise_slope_above", *broken.above)
            yield row("piecewise_explained", broken.explained)
        if n > QUANTILE_SAMPLE:
            chosen = rng.choice(n, QUANTILE_SAMPLE, replace=False)
            request, response = request[chosen], response[chosen]
        if np.ptp(request) > 0:
            for share in (0.05, 0.5, 0.95):
                of_quantile = relations.quantile_slope(request, response, share)
                yield row(f"quantile_slope_{round(100 * share):02d}", of_quantile, used=len(request))


def log_dip(values: np.ndarray, rng: np.random.Generator) -> tuple[float, float, int]:
    """The dip test on the logarithms of lengths; arguments and result as `dip`. Lengths of 0 are left out."""
    from diptest import diptest

    values = values[values >= 1]
    if len(values) > DIP_SAMPLE:
        values = rng.choice(values, DIP_SAMPLE, replace=False)
    statistic, p_value = diptest(np.log(values + rng.uniform(-0.5, 0.5, len(values))))
    return float(statistic), float(p_value), len(values)


# Bins -----------------------------------------------------------------------------------------------------------------


def by_request(source: str, request: np.ndarray, response: np.ndarray, width: float) -> dict[str, Any]:
    """Columns of response_by_request: bins [k · width, (k + 1) · width) of request tokens that hold a request.

    Quantiles interpolate linearly between order statistics, as NumPy's do.

    Args:
        source: label of the rows.
        request: shape (n,) [tokens].
        response: of the same requests, shape (n,) [tokens].
        width: of a bin [tokens], more than 0.
    """
    bins = (request // width).astype(np.int64)
    base = int(response.max(initial=0)) + 1
    key = np.sort(bins * base + response)
    ordered = (key % base).astype(float)
    n = np.bincount(bins)
    filled = np.flatnonzero(n)
    n = n[filled]
    first = np.cumsum(n) - n

    def quantile(q: float) -> np.ndarray:
        place = (n - 1) * q
        below = np.floor(place).astype(np.int64)
        above = np.minimum(below + 1, n - 1)
        return ordered[first + below] + (place - below) * (ordered[first + above] - ordered[first + below])

    sums = np.add.reduceat(ordered, first) if len(first) else np.zeros(0)
    return {
        "source": [source] * len(filled),
        "request_low": filled * float(width),
        "request_high": (filled + 1) * float(width),
        "n": n,
        "response_median": quantile(0.5),
        "response_mean": sums / np.maximum(n, 1),
        "response_p05": quantile(0.05),
        "response_p95": quantile(0.95),
    }


def in_coarse_bins(
    source: str, request: np.ndarray, response: np.ndarray, edges: np.ndarray, width: float
) -> dict[str, Any]:
    """Columns of response_bins: every response bin up to the longest response, in every request bin, empty ones too.

    Args:
        source: label of the rows.
        request: shape (n,) [tokens].
        response: of the same requests, shape (n,) [tokens].
        edges: rising edges of the request bins [tokens], shape (k + 1,).
        width: of a response bin [tokens], more than 0.
    """
    rows = len(edges) - 1
    which = np.searchsorted(edges, request, side="right") - 1
    inside = (which >= 0) & (which < rows)
    columns = int(response.max() // width) + 1 if len(response) else 0
    cell = which[inside] * columns + (response[inside] // width).astype(np.int64)
    low = np.tile(np.arange(columns) * float(width), rows)
    return {
        "source": [source] * (rows * columns),
        "request_low": np.repeat(edges[:-1].astype(float), columns),
        "request_high": np.repeat(edges[1:].astype(float), columns),
        "response_low": low,
        "response_high": low + float(width),
        "n": np.bincount(cell, minlength=rows * columns) if rows * columns else np.zeros(0, np.int64),
    }
