"""How long the twin's requests and responses are, and which requests fail."""

import numpy as np

from burstbench.trace.arrivals import Bools, Ints, filled_box, fit_boxes, memory_noise
from burstbench.trace.published import Floats, Published, PublishedError, Stream

# What no publication says about lengths:
# - the family of conversational requests is Gamma. With this shape their mean (from the hourly boxes) and the published
#   curve of responses by request length give the mean response of the hourly boxes;
CONVERSATION_SHAPE = 0.75
# - a program's requests resemble each other: standard deviation and autocorrelation, from hour to hour, of the
#   logarithm of the mean length of an hour's API requests, about what the boxes say of an hour with that many requests;
JOB_SPREAD = 0.5
JOB_MEMORY = 0.7
# - the share of an hour's days that may lie beyond its box's whiskers;
OUTLIERS = 0.1
# - how far single API requests scatter about that, in the logarithm of their length.
OWN_SPREAD = 1.0
# Hours with fewer requests than this in their published median say nothing about mean lengths.
LEAST_MEDIAN = 20


def failure_totals(published: Published, totals: dict[Stream, int]) -> dict[Stream, int]:
    """Return the failures of each service and model, exact.

    The totals by model and by service leave one number free, y, the failed conversations with ChatGPT. The paper says
    that ChatGPT fails more often than GPT-4 in both services; this holds for y in an interval (here 5695 to 6248, with
    the default tables), whose middle is taken. That claim holds for the twin by construction.

    Raises:
        PublishedError: no y fits.
    """
    conversation = published.count("failures", "conversation")
    chatgpt = published.count("failures", "ChatGPT")
    gpt4 = published.count("failures", "GPT-4")
    if chatgpt + gpt4 != conversation + published.count("failures", "api"):
        raise PublishedError("moments.csv: the failures by model and by service do not add up to the same")

    def cells(y: int) -> tuple[int, int, int, int]:
        return y, conversation - y, chatgpt - y, gpt4 - conversation + y

    sizes = tuple(totals.values())

    def as_claimed(y: int) -> bool:
        rates = [failed / size for failed, size in zip(cells(y), sizes, strict=True)]
        return min(cells(y)) >= 0 and rates[0] > rates[1] and rates[2] > rates[3]

    fitting = [y for y in range(conversation + 1) if as_claimed(y)]
    if not fitting:
        raise PublishedError("moments.csv: no split of the failures lets ChatGPT fail more often in both services")
    return dict(zip(totals, cells((fitting[0] + fitting[-1]) // 2), strict=True))


def conversation_requests(
    published: Published, model: str, hour_of_day: Ints, counted_share: float, rng: np.random.Generator
) -> Ints:
    """Draw the request lengths of conversations: Gamma, with the mean of their hour of day.

    The mean is the published median of the hour's request tokens over that of its requests; quiet hours take the mean
    over the day.

    Args:
        published: the tables.
        model: whose conversations.
        hour_of_day: shape (n,), 0 to 23.
        counted_share: share of the requests that have request tokens at all.
        rng: random generator.

    Returns:
        Shape (n,), tokens, at least 1.
    """
    tokens = published.boxes["hourly_request_tokens", "conversation", model][:, 2]
    requests = published.boxes["hourly_request_count", "conversation", model][:, 2]
    known = np.isfinite(tokens) & np.isfinite(requests) & (np.nan_to_num(requests) >= LEAST_MEDIAN)
    means = np.full(24, tokens[known].sum() / requests[known].sum())
    means[known] = tokens[known] / requests[known]
    draws = rng.standard_gamma(CONVERSATION_SHAPE, len(hour_of_day)) / CONVERSATION_SHAPE
    lengths = np.ceil(draws * means[hour_of_day] / counted_share).astype(np.int64)
    return np.clip(lengths, 1, published.count("request tokens", "max"))


def conversation_responses(
    published: Published,
    model: str,
    requests: Ints,
    cell: Ints,
    sums: Floats,
    known: Bools,
    rng: np.random.Generator,
    rounds: int = 5,
) -> Ints:
    """Draw the response to each conversational request from the published curves of responses by request length.

    At each request length the 5th percentile, the median and the 95th percentile are the published ones, between which
    the logarithm of the response is uniform; the answers above the 95th percentile are exponential with the mean that
    makes up the published mean. Requests longer than the curves keep the ratio of the last point. Which of these
    answers are long is moved, round by round, to the hours that have the longer ones.

    Args:
        published: the tables.
        model: whose conversations.
        requests: shape (n,), tokens.
        cell: shape (n,), the hour of each request.
        sums: shape (hours,), the response tokens of each hour.
        known: shape (hours,), the hours whose sums are told.
        rng: random generator.
        rounds: how many.

    Returns:
        Shape (n,), tokens, at least 1.
    """
    curve = published.responses[model]
    readable = curve[:, 1] < curve[:, 2]  # where the lines run into each other, the 5th percentile lies above
    last = curve[-1, 0]
    columns = []
    for k in range(1, 5):
        told = np.isfinite(curve[:, k]) & (readable if k == 1 else True)
        columns.append(np.interp(requests, curve[told, 0], curve[told, k]))
    low, middle, mean, high = np.array(columns) * np.maximum(requests / last, 1.0)
    up_to_high = (
        0.05 * low / 2 + 0.45 * (middle - low) / np.log(middle / low) + 0.45 * (high - middle) / np.log(high / middle)
    )
    excess = np.maximum((mean - up_to_high) / 0.05 - high, 0.0)
    longest = published.count("response tokens", "max")

    def answers(u: Floats) -> Ints:
        """Return the answers at these quantiles."""
        log_uniform = np.where(
            u < 0.5,
            low * (middle / low) ** ((u - 0.05) / 0.45),
            middle * (high / middle) ** ((u - 0.5) / 0.45),
        )
        above = high - excess * np.log1p(-np.clip((u - 0.95) / 0.05, 0, None))
        values = np.where(u < 0.05, low * u / 0.05, np.where(u < 0.95, log_uniform, above))
        return np.clip(np.rint(values).astype(np.int64), 1, longest)

    n = len(requests)
    own = rng.standard_normal(n)
    scores = np.zeros(len(sums))
    moved = known & (np.bincount(cell, minlength=len(sums)) > 0)
    even = (np.arange(n) + rng.random(n)) / n
    u = np.empty(n)
    for _ in range(rounds):
        u[np.argsort(scores[cell] + own, kind="stable")] = even
        found = np.bincount(cell, answers(u), minlength=len(sums))[moved]
        scores[moved] += 0.8 * np.log(np.maximum(sums[moved], 1) / found)
    return answers(u)


def remaining_lengths(published: Published, quantity: str, known: Ints, zeros: int, n: int) -> Ints:
    """Return the API's lengths, in ascending order: what the whole trace has beyond conversations and zeros.

    Between the published quartiles of the whole trace the lengths follow a smooth curve (uniform up to the first
    quartile, uniform in the logarithm up to the third); above, a Weibull tail up to the published maximum, whose two
    parameters give the whole trace its published mean and standard deviation.

    Args:
        published: the tables.
        quantity: "request tokens" or "response tokens".
        known: shape (m,), all lengths that are not 0 and not the API's.
        zeros: how many lengths are 0.
        n: how many lengths the API has that are not 0.

    Returns:
        Shape (n,), tokens, ascending.
    """
    whole = len(known) + zeros + n
    known = np.sort(known)
    quartiles = [published.count(quantity, item) for item in ("1st quartile", "median", "3rd quartile")]
    # How many lengths lie at or below each quartile: enough for the quartile to be this length, not the next.
    below = [
        int(share * (whole - 1)) + 2 - zeros - int(np.searchsorted(known, value, "right"))
        for share, value in zip((0.25, 0.5, 0.75), quartiles, strict=True)
    ]
    ends = np.maximum.accumulate(np.clip([0, *below], 0, n))
    pieces = []
    for k, size in enumerate(np.diff(ends)):
        u = (np.arange(size) + 0.5) / size if size else np.zeros(0)
        low, high = ([0, *quartiles][k], quartiles[k])
        pieces.append(high * u if k == 0 else low * (high / low) ** u)
    body = np.ceil(np.concatenate(pieces))
    mean, sd = published.value(quantity, "mean"), published.value(quantity, "sd")
    first = mean * whole - known.sum() - body.sum()
    second = (sd**2 + mean**2) * whole - np.square(known, dtype=float).sum() - np.square(body).sum()
    tail = weibull_tail(n - len(body), quartiles[-1], published.count(quantity, "max"), first, second)
    return np.concatenate([body, np.rint(tail)]).astype(np.int64)


def weibull_tail(n: int, start: float, limit: float, total: float, total_of_squares: float) -> Floats:
    """Return n evenly spaced quantiles of a shifted, limited Weibull distribution with the given sums.

    Args:
        n: how many.
        start: the shift; all values lie above.
        limit: the largest value, which the last quantile takes.
        total: the sum that the values should have.
        total_of_squares: the sum that their squares should have; where no Weibull shape from 0.25 to 8 gives it, the
            nearest is taken.

    Returns:
        Shape (n,), ascending.
    """
    if n == 0:
        return np.zeros(0)
    grid = -np.log1p(-(np.arange(n) + 0.5) / n)
    excess = max(total / n - start, 1.0)

    def values(shape: float) -> Floats:
        power = grid ** (1 / shape)
        for _ in range(4):  # what the limit cuts off is given back by scaling the rest
            power = np.minimum(power * (excess / power.mean()), limit - start)
        return start + power

    low, high = 0.25, 8.0
    for _ in range(20):
        shape = (low * high) ** 0.5
        if np.square(values(shape)).sum() > total_of_squares:
            low = shape  # too wide: a larger shape is narrower
        else:
            high = shape
    tail = values((low * high) ** 0.5)
    tail[-1] = limit
    return tail


def hour_sums(
    published: Published,
    quantity: str,
    stream: Stream,
    counts: Ints,
    workdays: Bools,
    scale: float,
    rng: np.random.Generator,
) -> tuple[Floats, Bools]:
    """Return the tokens of each hour, so that the hourly boxes of tokens come out.

    The boxes of tokens over those of requests tell the mean length in an hour with few, some, many requests; what goes
    on in it adds its own, remembered factor; then the hours of the workdays take the boxes' values.

    Args:
        published: the tables.
        quantity: "hourly_request_tokens" or "hourly_response_tokens".
        stream: service and model.
        counts: shape (days, 24), requests.
        workdays: shape (days,), the days that the boxes are of.
        scale: requests of this twin per published request, at the same time.
        rng: random generator.

    Returns:
        Shape (days, 24), tokens; 0 where there are no requests. Shape (days, 24), which of them the boxes tell: not
        those of weekends, nor the largest sums of an hour, since a box plot's outliers were not read.
    """
    requests = filled_box(published.boxes["hourly_request_count", *stream]) * scale
    tokens = filled_box(published.boxes[quantity, *stream]) * scale
    sums = np.zeros(counts.shape)
    for hour in range(24):
        known = (requests[hour] > 0) & (tokens[hour] > 0)
        length = np.interp(counts[:, hour], requests[hour, known], (tokens[hour] / requests[hour].clip(1e-9))[known])
        sums[:, hour] = counts[:, hour] * length
    noise = memory_noise(counts.size, JOB_MEMORY, rng).reshape(counts.shape)
    sums = fit_boxes(sums * np.exp(JOB_SPREAD * noise), None, tokens, workdays, rounds=1)
    told = np.zeros(counts.shape, bool)
    for hour in range(24):
        seen = sums[workdays, hour][counts[workdays, hour] > 0]
        if seen.size:
            told[:, hour] = workdays & (sums[:, hour] <= np.quantile(seen, 1 - OUTLIERS))
    return sums, told


def deal_lengths(
    lengths: Ints, cell: Ints, sums: Floats, known: Bools, rng: np.random.Generator, rounds: int = 5
) -> Ints:
    """Deal given lengths out to requests so that the requests of a cell have about a given sum.

    Each request has a score, its cell's plus its own normal part; the lengths are dealt out in the order of the scores,
    and the cells' scores are moved, round by round, to where their sums should be.

    Args:
        lengths: shape (n,), ascending.
        cell: shape (n,), the cell of each request.
        sums: shape (cells,), the wanted sums; only those of cells with requests matter.
        known: shape (cells,), the cells whose sums are told; the others are scaled to what is left of the sum, and all
            are if that will not do.
        rng: random generator.
        rounds: how many.

    Returns:
        Shape (n,), the length of each request.
    """
    n = np.bincount(cell, minlength=len(sums))
    used = n > 0
    wanted = np.clip(sums / np.maximum(n, 1), *np.quantile(lengths, (0.02, 0.98)))
    left = lengths.sum() - (wanted * n)[known].sum()
    others = (wanted * n)[~known].sum()
    if others and 0.5 < left / others < 4:
        wanted[~known] *= left / others
    else:
        wanted *= lengths.sum() / (wanted * n).sum()
    own = OWN_SPREAD * rng.standard_normal(len(cell))
    scores = np.log(np.maximum(wanted, 1e-9))
    dealt = np.empty_like(lengths)
    for _ in range(rounds):
        dealt[np.argsort(scores[cell] + own)] = lengths
        found = np.bincount(cell, dealt, minlength=len(sums))[used] / n[used]
        scores[used] += 0.8 * np.log(wanted[used] / found)
    return dealt
