"""When the twin's requests arrive: from totals to days, to hours, to 20-minute windows, to seconds.

What is published decides as far as it goes; what nobody published stands in `Assumptions`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from burstbench.trace.published import FIRST_DAY, STREAMS, Floats, Published, PublishedError, Stream

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

HOUR_S = 3600
DAY_S = 86400
WINDOW_S = 1200
PLACES = np.linspace(0, 1, 5)  # of a box's corners among the sorted values
LEAST_FOR_QUARTILES = 7  # among fewer values, one would belong to two quartiles
# When a draw of the hours is taken: at most so many hours whose median is off by more than so much; and how many draws.
MEDIANS_OFF, MEDIAN_WITHIN, DRAWS = 2, 0.1, 20
# Medians of fewer requests, or over fewer workdays, are not expected to be that exact.
LEAST_MEDIAN, LEAST_WORKDAYS = 10, 20


@dataclass(frozen=True)
class Assumptions:
    """What no publication says about the arrivals of a service.

    Attributes:
        hour_spread: standard deviation of the logarithm of an hour's requests about its day and its hour of day.
        hour_memory: autocorrelation of that from one hour to the next.
        active_slope: how fast the share of a day's hours that see requests grows with the logarithm of the day's
            requests; 0 if all hours do on all days.
        window_evenness: concentration of the (Dirichlet) shares that an hour's three windows take.
        alpha: median shape of the Gamma gaps.
        alpha_spread: standard deviation of log(alpha) over the windows.
        alpha_memory: autocorrelation of log(alpha) from one window to the next.
    """

    hour_spread: float
    hour_memory: float
    active_slope: float
    window_evenness: float
    alpha: float
    alpha_spread: float
    alpha_memory: float


# Conversations are people, many and independent; the API is a few programs, each of which runs for a while, most of
# them started by people. The values of alpha and of SILENT_NIGHTS are chosen so that the gaps of the whole trace come
# out near the published ones (share of repeated timestamps, quantiles, standard deviation).
ASSUMPTIONS = {
    "conversation": Assumptions(
        hour_spread=0.2,
        hour_memory=0.5,
        active_slope=0.0,
        window_evenness=60.0,
        alpha=0.5,
        alpha_spread=0.25,
        alpha_memory=0.7,
    ),
    "api": Assumptions(
        hour_spread=1.0,
        hour_memory=0.8,
        active_slope=0.6,
        window_evenness=2.0,
        alpha=0.5,
        alpha_spread=0.6,
        alpha_memory=0.8,
    ),
}
# Concentration of the (Dirichlet) shares in which the clipped days take up what is missing to the total: uneven, but no
# day far beyond the sum of the upper whiskers of its hours.
CLIPPED_EVENNESS = 8.0
# Share of the nights in which nothing at all arrives for hours. One such silence is as long as the published longest
# gap, the others are shorter, down to this part of it.
SILENT_NIGHTS = 0.33
SHORTEST_SILENCE = 0.3


def silent_nights(days: int, longest_s: int, rng: np.random.Generator) -> Floats:
    """Return the silences: shape (silences, 2), the whole seconds of the last request before and the first after.

    Args:
        days: length of the calendar.
        longest_s: length of the longest silence, shorter than the night's remaining hours.
        rng: random generator.
    """
    n = max(1, round(SILENT_NIGHTS * days))
    nights = rng.permutation(days)[:n]
    begins = nights * DAY_S + rng.integers(1, 4, n) * HOUR_S - 1
    lengths = rng.integers(int(SHORTEST_SILENCE * longest_s), longest_s, n)
    lengths[0] = longest_s
    return np.stack([begins, begins + lengths], axis=1).astype(float)


def covered(starts: Floats | Ints, length_s: float, silences: Floats) -> Bools:
    """Say which of the stretches of time that begin at `starts` lie wholly within a silence."""
    inside = np.zeros(len(starts), bool)
    for begin, end in silences:
        inside |= (starts > begin) & (starts + length_s <= end)
    return inside


def cell_totals(published: Published) -> dict[Stream, int]:
    """Return the requests of each service and model, exact.

    The totals by model and by service leave one number free, x, the conversations with ChatGPT:
    GPT-4 conversations = C - x, ChatGPT API = M - x, GPT-4 API = A - M + x. The paper gives all four in thousands.
    Read as rounded, they contradict the totals; read as cut off, x lies within a hundred or so. Its middle is taken.

    Raises:
        PublishedError: the totals and the cells contradict each other.
    """
    conversation = published.count("requests", "conversation")
    api = published.count("requests", "api")
    chatgpt = published.count("requests", "ChatGPT")
    bounds = {stream: published.truncated("requests", " ".join(stream)) for stream in STREAMS}
    own = bounds["conversation", "ChatGPT"]
    other_model = bounds["conversation", "GPT-4"]
    other_service = bounds["api", "ChatGPT"]
    neither = bounds["api", "GPT-4"]
    low = max(own[0], conversation - other_model[1], chatgpt - other_service[1], neither[0] - api + chatgpt)
    high = min(own[1], conversation - other_model[0], chatgpt - other_service[0], neither[1] - api + chatgpt)
    if low > high:
        raise PublishedError("moments.csv: the requests by service and model contradict the totals")
    x = (low + high) // 2
    return dict(zip(STREAMS, (x, conversation - x, chatgpt - x, api - chatgpt + x), strict=True))


def daily_requests(
    published: Published, totals: dict[Stream, int], start: date, days: int, rng: np.random.Generator
) -> dict[Stream, Floats]:
    """Return each stream's requests by day, in the proportions of the published calendar.

    Published days keep their value, days that are not published borrow that of a published day of the same weekday
    (not one that the colour bar clipped). What is missing to the stream's total goes to the clipped days, which are
    known to be at least that large, in uneven parts; a stream without such days scales the borrowed ones. Days outside
    of the two months copy a day of them, of the same weekday.

    Args:
        published: the tables.
        totals: requests of each stream over the two months.
        start: date of day 1.
        days: how many days.
        rng: random generator.

    Returns:
        By stream: shape (days,), requests; not whole numbers.
    """
    calendar = [FIRST_DAY + timedelta(i) for i in range(published.count("period", "days"))]
    filled = {stream: _fill_calendar(published.daily[stream], calendar, totals[stream], rng) for stream in STREAMS}
    places = []
    for i in range(days):
        day = start + timedelta(i)
        same_weekday = [k for k, known in enumerate(calendar) if known.weekday() == day.weekday()]
        drawn = int(rng.integers(len(same_weekday)))
        inside = (day - FIRST_DAY).days
        places.append(inside if 0 <= inside < len(calendar) else same_weekday[drawn])
    return {stream: values[places] for stream, values in filled.items()}


def _fill_calendar(
    daily: dict[date, tuple[float, bool]], calendar: list[date], total: int, rng: np.random.Generator
) -> Floats:
    values = np.zeros(len(calendar))
    clipped = np.zeros(len(calendar), bool)
    borrowed = np.zeros(len(calendar), bool)
    for i, day in enumerate(calendar):
        if day in daily:
            requests, clipped[i] = daily[day]
            values[i] = np.nan_to_num(requests)  # a blank cell: a day without requests
        else:
            donors = [v for d, (v, cut) in daily.items() if d.weekday() == day.weekday() and not cut and v > 0]
            values[i] = donors[int(rng.integers(len(donors)))]
            borrowed[i] = True
    missing = total - values.sum()
    if clipped.any() and missing > 0:
        values[clipped] += missing * rng.dirichlet(np.full(clipped.sum(), CLIPPED_EVENNESS))
    elif borrowed.any() and total > values[~borrowed].sum():
        values[borrowed] *= (total - values[~borrowed].sum()) / values[borrowed].sum()
    else:
        raise PublishedError(f"daily_requests.csv: the days add up to more than the {total} requests of the stream")
    return values


def hourly_requests(
    published: Published,
    stream: Stream,
    daily: Ints,
    workdays: Bools,
    closed: Bools,
    scale: float,
    rng: np.random.Generator,
) -> Ints:
    """Share each day's requests among its hours so that the spread over the days follows the published boxes.

    The published boxes are of workdays, and of hours with at least one request: with weekends in them the lower
    quartiles of conversation would lie at half their value, and with empty hours counted as 0 the API's would add up
    to more requests than there are.

    Args:
        published: the tables.
        stream: service and model.
        daily: shape (days,), requests of each day.
        workdays: shape (days,), Monday to Friday.
        closed: shape (days, 24), hours in which nothing may arrive.
        scale: requests of this twin per published request, at the same time.
        rng: random generator.

    Returns:
        Shape (days, 24), whole numbers; the rows add up to `daily`.
    """
    assumed = ASSUMPTIONS[stream[0]]
    days = len(daily)
    box = filled_box(published.boxes["hourly_request_count", *stream]) * scale
    noise = memory_noise(days * 24, assumed.hour_memory, rng).reshape(days, 24)
    guess = np.where(closed, 0.0, box[:, 2] * np.exp(assumed.hour_spread * noise))
    totals = np.asarray(daily, float)
    if not assumed.active_slope:
        return whole_numbers(fit_boxes(guess, totals, box, workdays), daily)
    # People start programs: the hours in which they are awake come first.
    awake = np.log(published.boxes["hourly_request_count", "conversation", stream[1]][:, 4])
    wish = np.where(closed, -np.inf, noise + awake)
    rank = np.argsort(np.argsort(-wish, axis=1, kind="stable"), axis=1, kind="stable")
    # A day's requests fall into the more hours the more there are. How many does it take for half of the hours to see
    # some? The fewer hours, the fewer requests the boxes account for: as many as the workdays have within the whiskers.
    mean = np.array([np.interp(np.linspace(0, 1, 201), PLACES, corners).mean() for corners in box])
    low, high = 1.0, 1e6
    for _ in range(30):
        half = (low * high) ** 0.5
        share = 1 / (1 + (half / np.maximum(daily / scale, 1)) ** assumed.active_slope)
        active = (rank < np.maximum(np.rint(24 * share), 1)[:, None]) & ~closed
        within = np.minimum(totals, (active * box[:, -1]).sum(axis=1))
        if (active[workdays] * mean).sum() > within[workdays].sum():
            low = half
        else:
            high = half
    return whole_numbers(fit_boxes(np.where(active, guess, 0.0), totals, box, workdays), daily)


def drawn_hours(wanted: Floats, workdays: Bools, draw: Callable[[], Ints]) -> Ints:
    """Draw the hours anew until their medians are the published ones: a draw given these medians.

    In some draws the noise makes so many hours of few days busy that days and boxes cannot both be met. The first draw
    with at most `MEDIANS_OFF` hours whose median is off by more than `MEDIAN_WITHIN` is taken; if there is none among
    `DRAWS`, that with the fewest. In a trace of few workdays the first draw is.

    Args:
        wanted: shape (24,), published medians of the hours.
        workdays: shape (days,).
        draw: `hourly_requests` of a stream; gives others each time.

    Returns:
        Shape (days, 24), as `hourly_requests`.
    """
    best, fewest = None, np.inf
    for _ in range(DRAWS):
        found = draw()
        off = 0
        for hour in np.flatnonzero(wanted >= LEAST_MEDIAN) if workdays.sum() >= LEAST_WORKDAYS else ():
            counts = found[workdays, hour]
            counts = counts[counts > 0]
            off += not len(counts) or abs(np.median(counts) / wanted[hour] - 1) > MEDIAN_WITHIN
        if off < fewest:
            best, fewest = found, off
        if off <= MEDIANS_OFF:
            break
    assert best is not None
    return best


def filled_box(box: Floats) -> Floats:
    """Fill the unreadable corners of hourly boxes from those of the same hour that can be read.

    Args:
        box: shape (24, 5), whiskers, quartiles and median by hour; NaN where not readable. Whiskers never are.
    """
    return np.array([np.interp(PLACES, PLACES[np.isfinite(row)], row[np.isfinite(row)]) for row in box])


def fit_boxes(values: Floats, row_totals: Floats | None, box: Floats, workdays: Bools, rounds: int = 30) -> Floats:
    """Fit a table of day by hour to totals by day and to boxes by hour, in turns.

    Each round gives the workdays' values of an hour, in their present order, the values of a distribution with the
    hour's whiskers and quartiles (linear in between), and scales each day to its total. Quartiles say nothing about
    the values between them, so a value is scaled within the quarter of its hour that it lies in, and those that the
    quartiles are read from stay. A day with more requests than that has hours beyond their whiskers, as outliers of a
    box plot are; one with fewer is scaled as a whole.

    Args:
        values: shape (days, 24), a first guess; zeros stay zeros.
        row_totals: shape (days,); None leaves the days free.
        box: shape (24, 5), whiskers, quartiles and median by hour.
        workdays: shape (days,), the days that the boxes are of.
        rounds: how many.
    """
    values = values.copy()
    columns = []
    for hour in range(values.shape[1]):
        rows = np.flatnonzero(workdays & (values[:, hour] > 0))
        columns.append((rows, *(np.maximum(part, 1) for part in _quarters(len(rows), box[hour]))))
    low = np.zeros_like(values)
    high = np.where(values > 0, np.inf, 0.0)
    highest = np.maximum(box[:, -1], 1)
    for _ in range(rounds):
        for hour, (rows, wanted, least, most) in enumerate(columns):
            ascending = rows[np.argsort(values[rows, hour], kind="stable")]
            values[ascending, hour] = wanted
            low[ascending, hour], high[ascending, hour] = least, most
        if row_totals is None:
            break
        values = _scale_rows(values, row_totals, low, high, (high == highest) & (low < high))
    return values


def _quarters(n: int, corners: Floats) -> tuple[Floats, Floats, Floats]:
    """Return n ascending values of a box, and the least and the most that each may be without moving a quartile."""
    wanted = np.interp((np.arange(n) + 0.5) / max(n, 1), PLACES, corners)
    if n < LEAST_FOR_QUARTILES:
        return wanted, np.full(n, corners[0]), np.full(n, corners[-1])
    quarter = np.minimum(4 * np.arange(n) // (n - 1), 3)
    least, most = corners[quarter], corners[quarter + 1]
    for k in (1, 2, 3):
        read = [(n - 1) * k // 4, -(-(n - 1) * k // 4)]  # what `np.quantile` reads a quartile from
        wanted[read] = least[read] = most[read] = corners[k]
    return wanted.clip(least, most), least, most


def _scale_rows(values: Floats, totals: Floats, low: Floats, high: Floats, top: Bools) -> Floats:
    """Scale each row to its total, each value within its limits; what is beyond the limits goes to the row's top."""
    factor_low, factor_high = np.full((2, len(values), 1), [[[1e-6]], [[1e6]]])
    for _ in range(60):
        factor = np.sqrt(factor_low * factor_high)
        short = np.clip(values * factor, low, high).sum(axis=1, keepdims=True) < totals[:, None]
        factor_low, factor_high = np.where(short, factor, factor_low), np.where(short, factor_high, factor)
    scaled = np.clip(values * factor, low, high)
    at_top = np.where(top, scaled, 0.0)
    missing, room = totals - scaled.sum(axis=1), at_top.sum(axis=1)
    scaled += at_top * np.divide(missing, room, out=np.zeros_like(room), where=(room > 0) & (missing > 0))[:, None]
    sums = scaled.sum(axis=1)
    return scaled * np.divide(totals, sums, out=np.zeros_like(sums), where=sums > 0)[:, None]


def whole_numbers(values: Floats, row_totals: Ints) -> Ints:
    """Round each row to whole numbers with the given sum, by largest remainders."""
    sums = values.sum(axis=1, keepdims=True)
    even = np.full_like(values, 1 / values.shape[1])
    exact = np.divide(values, sums, out=even, where=sums > 0) * row_totals[:, None]
    floors = np.floor(exact).astype(np.int64)
    left = row_totals - floors.sum(axis=1)
    rank = np.argsort(np.argsort(floors - exact, axis=1, kind="stable"), axis=1, kind="stable")
    return floors + (rank < left[:, None])


def memory_noise(n: int, memory: float, rng: np.random.Generator) -> Floats:
    """Return n values of a stationary Gaussian AR(1) process of variance 1, with autocorrelation `memory` at lag 1."""
    steps = rng.standard_normal(n) * np.sqrt(1 - memory**2)
    values = np.empty(n)
    value = rng.standard_normal()
    for i, step in enumerate(steps):
        value = memory * value + step
        values[i] = value
    return values


def arrival_times(hourly: Ints, service: str, edges: Floats, rng: np.random.Generator) -> Floats:
    """Return the arrival times of one stream.

    An hour's requests fall on its three windows by a Dirichlet-multinomial draw. Within a window of n requests the
    n + 1 gaps, from its start to its end, are Gamma with the window's shape alpha, given that they add up to the
    window; log(alpha) is an AR(1) process over the windows.

    Args:
        hourly: shape (days, 24), requests.
        service: whose assumptions.
        edges: shape (windows, 2), first and last moment of each window, s.
        rng: random generator.

    Returns:
        Shape (requests,), s, ascending within windows and over windows.
    """
    assumed = ASSUMPTIONS[service]
    per_hour = HOUR_S // WINDOW_S
    lengths = (edges[:, 1] - edges[:, 0]).reshape(-1, per_hour)
    shares = rng.standard_gamma(assumed.window_evenness / per_hour, lengths.shape) * lengths
    shares = np.where(shares.sum(axis=1, keepdims=True) > 0, shares, 1.0)
    counts = rng.multinomial(hourly.ravel(), shares / shares.sum(axis=1, keepdims=True)).ravel()
    alpha = assumed.alpha * np.exp(assumed.alpha_spread * memory_noise(counts.size, assumed.alpha_memory, rng))
    return gamma_bridges(counts, alpha, edges, rng)


def gamma_bridges(counts: Ints, alpha: Floats, edges: Floats, rng: np.random.Generator) -> Floats:
    """Return arrivals whose gaps are Gamma, given how many fall in each window.

    Args:
        counts: shape (windows,), arrivals.
        alpha: shape (windows,), shape parameters.
        edges: shape (windows, 2), s.
        rng: random generator.

    Returns:
        Shape (sum of counts,), s.
    """
    used = np.flatnonzero(counts)
    gaps_of = counts[used] + 1
    ends = np.cumsum(gaps_of)
    gaps = rng.standard_gamma(np.repeat(alpha[used], gaps_of)) + 1e-6  # two gaps never add up to nothing
    reached = np.cumsum(gaps)
    before = np.concatenate([[0.0], reached[ends[:-1] - 1]]) if used.size else np.zeros(0)
    whole = reached[ends - 1] - before
    share = (reached - np.repeat(before, gaps_of)) / np.repeat(whole, gaps_of)
    low, high = edges[used].T
    times = np.repeat(low, gaps_of) + share * np.repeat(high - low, gaps_of)
    inside = np.ones(len(times), bool)
    inside[ends - 1] = False  # the last gap of a window ends with the window, not with a request
    return np.minimum(times[inside], np.repeat(np.nextafter(high, low), counts[used]))
