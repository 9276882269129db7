"""Step times fitted to a log: recovered from logs with known ones, used by the simulator, wrong logs refused."""

import json

import numpy as np
import pytest
from burstbench import contracts
from burstbench.serve import fit, scheduler, steptime
from burstbench.serve.fit import Cache, FitError
from burstbench.serve.steptime import StepTime

CACHE = Cache(600, 16)
LIMITS = scheduler.Limits(600, 64, 512)
# 4 ms, flat to 64 tokens, then 50 µs each; 0.1 ms a request, 0.4 µs a token of context; prompts 0.5 ms and 1 ns a pair.
TRUTH = StepTime(
    4e-3 + 5e-5 * np.maximum(0, np.arange(513) - 64), np.zeros(65), np.array([0, 1e-4, 0, 4e-7, 0, 0, 1, 5e-4, 1e-9])
)


def workload(seed, size=400, gap=0.08):
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(gap * 1e9, size)).astype(np.int64)
    return arrival, rng.integers(5, 700, size), rng.integers(1, 200, size)


def log(run, path, noise=0.0, seed=0):
    """Write a step log, its durations with a factor of noise and some steps held up; return its columns."""
    rng = np.random.default_rng(seed)
    duration = run.steps[:, scheduler.DURATION] * np.exp(noise * rng.standard_normal(len(run.steps)))
    if noise:
        duration = np.where(rng.random(duration.size) < 0.02, 5 * duration, duration)
    steps = run.steps
    contracts.STEPS.write(
        {
            "step": np.arange(len(steps)),
            "start_ns": steps[:, scheduler.START],
            "duration_ns": duration.astype(np.int64),
            "prefill_tokens": steps[:, scheduler.PREFILL],
            "decode_tokens": steps[:, scheduler.DECODE],
            "running": steps[:, scheduler.RUNNING],
            "waiting": steps[:, scheduler.WAITING],
            "preempted": steps[:, scheduler.PREEMPTED],
            "kv_usage": steps[:, scheduler.USED] / CACHE.blocks,
            "free_blocks": CACHE.blocks - steps[:, scheduler.USED],
            "gpu_memory_bytes": np.full(len(steps), 1),
        },
        path,
    )
    return fit.read_steps(path)


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_another_load_is_predicted_from_a_noisy_log(tmp_path, noise):
    first = scheduler.simulate("v1", *workload(1), LIMITS, TRUTH)
    fitted = fit.fit(log(first, tmp_path / "steps.parquet", noise), CACHE)
    assert fitted["error"] < 0.03 + noise + (0.1 if noise else 0)
    (tmp_path / "fit.json").write_text(json.dumps(fitted))
    times, read = fit.of(tmp_path / "fit.json", 512, 64)
    assert read == fitted
    arrival, prompt, response = workload(2, gap=0.12)
    truth = scheduler.simulate("v1", arrival, prompt, response, LIMITS, TRUTH)
    found = scheduler.simulate("v1", arrival, prompt, response, LIMITS, times)
    for name in ("first_token_ns", "done_ns"):
        mine, wanted = getattr(found, name) - arrival, getattr(truth, name) - arrival
        assert mine.mean() == pytest.approx(wanted.mean(), rel=0.05 if not noise else 0.08)
    other = log(truth, tmp_path / "other.parquet")
    predicted = fit.predicted_s(fitted, other, CACHE)
    assert np.abs(predicted / (other["duration_ns"] * 1e-9) - 1).mean() < 0.05


def test_noise_does_not_move_the_total(tmp_path):
    run = scheduler.simulate("v1", *workload(3), LIMITS, TRUTH)
    steps = log(run, tmp_path / "steps.parquet")
    # Mean 1, coefficient of variation 0.3: errors relative to the measured times would be 9 % too low in total.
    steps["duration_ns"] = steps["duration_ns"] * np.random.default_rng(4).gamma(11.1, 1 / 11.1, len(run.steps))
    assert abs(fit.fit(steps, CACHE)["total_error"]) < 0.01


def test_the_simulator_and_the_fit_mean_the_same_by_a_step(tmp_path):
    fitted = {
        "kind": "fitted", "knots": [0, 10, 20], "level_s": [1e-3, 2e-3, 4e-3], "per_request_s": 1e-4,
        "per_context_s": 1e-6, "launch_s": 3e-4, "per_pair_s": 1e-8,
        "range": {"tokens": 20, "requests": 3, "context": 100},
    }  # fmt: skip
    (tmp_path / "fit.json").write_text(json.dumps(fitted))
    times, _ = fit.of(tmp_path / "fit.json", 40, 8)
    # 14 tokens prompt, one request decoding with 50 tokens of context: between 2 and 4 ms, half way.
    found = steptime.seconds(
        times.linear_s, times.head_s, times.attention, 15, 2, 1, 50, 50, 1, steptime.prefill_work(14, 0)
    )
    assert found == pytest.approx(3e-3 + 2e-4 + 5e-5 + 3e-4 + 1e-8 * 14 * 556 / 2)
    assert times.linear_s[40] == pytest.approx(8e-3)
    # Of the same step a log shows 4 + 1 blocks of 16: 80 tokens less 14 and 15.
    steps = {name: np.array([value]) for name, value in
             {"prefill_tokens": 14.0, "decode_tokens": 1.0, "running": 2.0, "kv_usage": 5 / 600}.items()}  # fmt: skip
    assert fit.predicted_s(fitted, steps, CACHE)[0] == pytest.approx(found + 1e-6 * (80 - 29 - 50))
    assert fit.validity(fitted, 20, 3, 100) == []
    assert [text.split(";")[0] for text in fit.validity(fitted, 21, 3, 1000)] == [
        "21 tokens in a step",
        "1000 tokens in the KV cache",
    ]


def test_where_the_size_of_the_cache_stands(tmp_path):
    assert fit.cache_of({"capacity": {"usable_blocks": 7, "block_tokens": 16}}, tmp_path) == Cache(7, 16)
    assert fit.cache_of({"engine_facts": {"blocks": 8, "block_tokens": 32}}, tmp_path) == Cache(7, 32)
    with pytest.raises(FitError, match=r"run\.json: found no capacity"):
        fit.cache_of({"capacity": {"blocks": 8}}, tmp_path / "run.json")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda table: {name: np.delete(values, 40) for name, values in table.items()}, "found step 41 after step 39"),
        (
            lambda table: table | {"duration_ns": np.where(table["step"] == 7, 0, table["duration_ns"])},
            "row 7: found a",
        ),
        (lambda table: {name: values[:0] for name, values in table.items()}, "found no steps.*step_log"),
    ],
)
def test_a_log_with_holes_is_refused(tmp_path, spoil, message):
    path = tmp_path / "steps.parquet"
    log(scheduler.simulate("v1", *workload(3), LIMITS, TRUTH), path)
    table = contracts.STEPS.read(path)
    columns = {name: np.array(table.column(name).to_pylist()) for name in table.column_names}
    contracts.STEPS.write({**spoil(columns), "gpu_memory_bytes": [None] * len(spoil(columns)["step"])}, path)
    with pytest.raises(FitError, match=message):
        fit.read_steps(path)


def test_wrong_logs_and_files_are_refused(tmp_path):
    run = scheduler.simulate("v1", *workload(3, size=2), LIMITS, TRUTH)
    steps = {name: values[:50] for name, values in log(run, tmp_path / "steps.parquet").items()}
    with pytest.raises(FitError, match="expected at least 100"):
        fit.fit(steps, CACHE)
    good = fit.fit(log(scheduler.simulate("v1", *workload(4), LIMITS, TRUTH), tmp_path / "steps.parquet"), CACHE)
    for key, value in (("kind", "table"), ("launch_s", -1.0), ("knots", [0.0, 0.0]), ("range", {}), ("level_s", None)):
        (tmp_path / "fit.json").write_text(json.dumps(good | {key: value}))
        with pytest.raises(FitError, match=r"fit\.json"):
            fit.of(tmp_path / "fit.json", 10, 10)
