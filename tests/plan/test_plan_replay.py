"""Replay: the trace's own times and lengths, scaled without changing how bursty they are."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from burstbench.contracts import TRACE
from burstbench.errors import UserError
from burstbench.plan import phases, replay
from test_plan_make import plan

DAY = 86_400


def trace_table(time_s, request=None, response=None, session=None, service="api"):
    n = len(time_s)
    columns = {
        "time_s": np.asarray(time_s, float),
        "service": pa.array([service] * n, TRACE.schema.field("service").type),
        "model": ["ChatGPT"] * n,
        "request_tokens": np.arange(1, n + 1) % 150 + 1 if request is None else request,
        "response_tokens": np.arange(n) % 40 + 1 if response is None else response,
        "failed": [False] * n,
        "session_id": pa.array(session or [None] * n, pa.string()),
        "elapsed_s": pa.nulls(n, pa.float64()),
    }
    return pa.table(columns, schema=TRACE.schema)


def stream(trace, seed=1, **spec):
    spec = {"service": "all", "from_s": 0, "seconds": DAY, **spec}
    replay.validate(spec, "replay")
    return replay.stream(trace, spec, np.random.default_rng(seed), "replay")


def bursty(seed, n=20_000, alpha=0.2):
    """Gamma gaps whose rate swings over the day, in fractions of a second."""
    rng = np.random.default_rng(seed)
    gaps = rng.gamma(alpha, 1 / alpha, n)
    warped = np.cumsum(gaps * (1 + 0.9 * np.sin(np.arange(n) / 900)))
    return warped / warped[-1] * (DAY - 10) + 0.37


def cv(send_ns, width_s, seconds=DAY):
    counts = np.histogram(send_ns / 1e9, np.arange(0, seconds + 1, width_s))[0]
    return counts.std() / counts.mean()


def test_times_in_the_window_are_kept_to_the_nanosecond():
    times = [10.25, 11.5, 11.5, 19.75, 20.0]
    made = stream(trace_table(times), from_s=10, seconds=10)
    assert made.send_ns.tolist() == [250_000_000, 1_500_000_000, 1_500_000_000, 9_750_000_000]
    assert made.request_tokens.tolist() == [2, 3, 4, 5]
    assert made.record["replay"]["time_within_a_second"] == "the trace's"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_speed_scales_gaps_and_nothing_else(seed):
    trace = trace_table(bursty(seed))
    plain, fast = stream(trace), stream(trace, speed=7)
    assert np.abs(fast.send_ns - plain.send_ns / 7).max() <= 1
    gaps = np.diff(plain.send_ns)
    assert np.std(np.diff(fast.send_ns)) / np.mean(np.diff(fast.send_ns)) == pytest.approx(gaps.std() / gaps.mean())


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("keep", [0.5, 0.1])
def test_thinning_keeps_how_counts_vary(seed, keep):
    trace = trace_table(bursty(seed))
    plain, thin = stream(trace), stream(trace, keep=keep)
    assert abs(len(thin.send_ns) - keep * len(plain.send_ns)) <= 1
    assert cv(thin.send_ns, 1200) == pytest.approx(cv(plain.send_ns, 1200), rel=0.02)
    edges = np.arange(0, DAY + 1, 1200)
    counts = [np.histogram(one.send_ns / 1e9, edges)[0] for one in (plain, thin)]
    assert np.abs(counts[1] - keep * counts[0]).max() <= 1


def test_chance_would_not_have_kept_it():
    """The property that the test above holds us to is one that Bernoulli thinning lacks."""
    plain = stream(trace_table(bursty(1))).send_ns
    chance = plain[np.random.default_rng(1).random(len(plain)) < 0.1]
    edges = np.arange(0, DAY + 1, 1200)
    off = np.histogram(chance / 1e9, edges)[0] - 0.1 * np.histogram(plain / 1e9, edges)[0]
    assert np.abs(off).max() > 5


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_superposition_keeps_how_counts_vary(seed):
    trace = trace_table(bursty(seed))
    plain, more = stream(trace), stream(trace, copies=4, spread_s=5)
    assert len(more.send_ns) == 4 * len(plain.send_ns)
    assert more.send_ns.min() >= 0
    assert more.send_ns.max() < DAY * 10**9
    assert cv(more.send_ns, 300) == pytest.approx(cv(plain.send_ns, 300), rel=0.02)
    # Four streams at independent times would even each other out.
    rolled = np.concatenate([(plain.send_ns + k * DAY * 10**9 // 4) % (DAY * 10**9) for k in range(4)])
    assert cv(rolled, 300) < 0.8 * cv(plain.send_ns, 300)
    assert np.sort(np.repeat(plain.request_tokens, 4)).tolist() == np.sort(more.request_tokens).tolist()


def test_whole_seconds_are_spread_and_keep_their_order():
    times = np.repeat(np.arange(500), 20)
    made = stream(trace_table(times, request=np.arange(1, 10_001)), seconds=500)
    assert np.array_equal(made.send_ns // 10**9, times)
    assert made.request_tokens.tolist() == list(range(1, 10_001))
    part = made.send_ns % 10**9 / 1e9
    assert np.histogram(part, 10, (0, 1))[0] == pytest.approx(np.full(10, 1000), abs=4 * 900**0.5)
    assert made.record["replay"]["time_within_a_second"] == "seeded uniform"


@pytest.mark.parametrize("seed", range(5))
def test_sessions_stay_whole_and_in_order(seed):
    rng = np.random.default_rng(seed)
    n = 600
    session = [f"s{number}" for number in rng.integers(0, 60, n)]
    trace = trace_table(np.sort(rng.integers(0, 5000, n)), request=np.arange(1, n + 1), session=session)
    made = stream(trace, seed, seconds=5000, keep=0.5, copies=3, spread_s=600)
    found = {}
    for token in made.request_tokens.tolist():  # a row's length is its number: copies cannot be told apart, but counted
        found.setdefault(session[token - 1], []).append(token)
    sizes = {name: session.count(name) for name in found}
    assert all(len(rows) == 3 * sizes[name] for name, rows in found.items())
    assert abs(len(found) - 0.5 * len(set(session))) <= 1
    alone = stream(trace, seed, seconds=5000, keep=0.5)
    order = {}
    for token in alone.request_tokens.tolist():
        order.setdefault(session[token - 1], []).append(token)
    assert all(rows == sorted(rows) for rows in order.values())
    # Each of the three passes of a session is in order: the k-th occurrence of its rows never falls.
    for name, rows in found.items():
        seen = dict.fromkeys(rows, 0)
        for token in rows:
            seen[token] += 1
            assert all(seen[earlier] >= seen[token] for earlier in seen if earlier < token), name


def test_a_replayed_phase_in_a_plan():
    times = np.concatenate([[0.0, 1.5, 1.5], 100 + bursty(3, 3000) / DAY * 900])
    trace = trace_table(times, request=np.r_[0, 500, 7, np.full(3000, 9)], response=np.r_[0, 9999, 5, np.full(3000, 3)])
    phase = {"name": "r", "replay": {"service": "api", "from_s": 0, "seconds": 1000, "speed": 10, "responses": "trace"}}
    settings_plan, facts = plan([{"name": "warmup", "seconds": 10}, phase], trace=trace)
    mine = settings_plan.filter(pc.equal(settings_plan["phase"], "r"))
    assert mine.num_rows == 3003
    assert mine["prompt_tokens"].to_pylist()[:3] == [1, 200, 7]
    assert mine["max_tokens"].to_pylist()[:3] == [1, 1024, 5]
    assert mine["theta"].null_count == 3003
    gaps = np.diff(mine["send_s"].to_numpy(), prepend=10.0)
    alpha, beta = mine["alpha"][0].as_py(), mine["beta"][0].as_py()
    assert alpha == pytest.approx(gaps.mean() ** 2 / gaps.var(), rel=1e-6)
    assert alpha * beta == pytest.approx(gaps.mean(), rel=1e-6)
    fact = facts["phases"][1]
    assert fact["end_s"] - fact["start_s"] == 100
    assert fact["lengths"]["share_above_n_max_cut"] == pytest.approx(1 / 3003)
    assert fact["lengths"]["share_empty_sent_as_one_token"] == pytest.approx(1 / 3003)
    with pytest.raises(UserError, match="need the trace; give --trace"):
        plan([phase])


def test_joint_lengths_come_from_one_request():
    rng = np.random.default_rng(5)
    request = rng.integers(0, 260, 5000)
    trace = trace_table(np.arange(5000), request=request, response=request * 3)
    phase = {"name": "j", "requests": 4000, "lengths": {"kind": "joint", "service": "api", "model": "ChatGPT"}}
    made, facts = plan([phase], trace=trace)
    tokens = made["prompt_tokens"].to_numpy()
    assert np.array_equal(made["max_tokens"].to_numpy(), 3 * tokens)
    assert tokens.min() >= 1
    assert tokens.max() <= 200
    served = request[(request >= 1) & (request <= 200)]
    assert np.mean(tokens) == pytest.approx(np.mean(served), abs=4 * np.std(served) / 4000**0.5)
    assert facts["phases"][0]["lengths"]["share_left_out"] == pytest.approx(1 - len(served) / 5000)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"keep": 1.5}, "keep: found 1.5, expected a share of at most 1"),
        ({"speed": 0}, "speed: found 0, expected a number > 0"),
        ({"copies": 0}, "copies: found 0, expected a whole number >= 1"),
        ({"from_s": -1}, "from_s: found -1"),
        ({"service": "chat"}, "service: found 'chat'"),
        ({"slow": 1}, "slow: unknown key"),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(spec, said):
    phase = {"name": "r", "replay": {"service": "all", "from_s": 0, "seconds": 10, **spec}}
    with pytest.raises(UserError, match=rf"phases\[0\].replay.{said}"):
        phases.validate([phase])


def test_an_empty_window_is_refused():
    with pytest.raises(UserError, match="no request of the trace falls into 5 s from 100 s"):
        stream(trace_table([1.0]), from_s=100, seconds=5)
    with pytest.raises(UserError, match="no request of service 'conversation'"):
        stream(trace_table([1.0]), service="conversation")
