"""Tables of an experiment: order, intervals over seeds, timeline, and refused cells."""

import json

import numpy as np
import pytest
from burstbench.cli import main
from burstbench.contracts import CELL_METRICS, REQUESTS, SUMMARY, TIMELINE, ContractError
from burstbench.errors import UserError
from burstbench.metrics.summarise import bootstrap_means, over_seeds, summarise
from metrics_cells import write_cell
from scipy import stats

LIMITS = {"interval_s": 10, "resamples": 500, "good_ttft_s": 10.0, "good_tpot_s": 0.2, "seed": 3}


def make(folder, cells, **settings):
    """Run `summarise` and return its three tables as lists of rows."""
    paths = [folder / f"{name}.parquet" for name in ("cells", "summary", "timeline")]
    summarise(cells, *paths, **(LIMITS | settings))
    return [
        contract.read(path).to_pylist() for contract, path in zip((CELL_METRICS, SUMMARY, TIMELINE), paths, strict=True)
    ]


def value(rows, metric, column="value", **where):
    """The one row's column."""
    (row,) = [row for row in rows if row["metric"] == metric and all(row[key] == at for key, at in where.items())]
    return row[column]


def answered(seconds, **more):
    return [{"intended": 0, "sent": 0, "scheduled": 0, "first": 1, "done": seconds, "tokens": 2} | more]


def test_the_summary_is_the_mean_over_seeds_with_their_range_for_two(tmp_path):
    cells = [write_cell(tmp_path, answered(seconds), [], seed=seed) for seed, seconds in ((1, 10), (2, 20))]
    _, summary, _ = make(tmp_path, cells)
    assert value(summary, "latency_mean", "mean") == 15
    assert (value(summary, "latency_mean", "low"), value(summary, "latency_mean", "high")) == (10, 20)
    assert value(summary, "latency_mean", "seeds") == 2
    assert value(summary, "kv_usage_mean", "mean") is None
    assert value(summary, "kv_usage_mean", "seeds") == 0


def test_one_seed_has_no_interval(tmp_path):
    _, summary, _ = make(tmp_path, [write_cell(tmp_path, answered(10), [])])
    assert value(summary, "latency_mean", "mean") == 10
    assert value(summary, "latency_mean", "low") is None
    assert value(summary, "latency_mean", "seeds") == 1


def test_a_seed_without_a_value_is_left_out_of_the_mean(tmp_path):
    cells = [
        write_cell(tmp_path, answered(10), [], seed=1),
        write_cell(tmp_path, [{"intended": 0, "outcome": "timeout", "done": 30}], [], seed=2),
    ]
    _, summary, _ = make(tmp_path, cells)
    assert value(summary, "latency_mean", "mean") == 10
    assert value(summary, "latency_mean", "seeds") == 1
    assert value(summary, "failure_rate", "mean") == 0.5


def test_intervals_agree_with_scipy():
    rng = np.random.default_rng(11)
    samples = rng.gamma(2.0, 3.0, size=(5, 12))
    low, high = bootstrap_means(samples, 20_000, np.random.default_rng(1))
    for row, lower, upper in zip(samples, low, high, strict=True):
        found = stats.bootstrap(
            (row,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
        ).confidence_interval
        spread = found.high - found.low
        assert lower == pytest.approx(found.low, abs=0.03 * spread)
        assert upper == pytest.approx(found.high, abs=0.03 * spread)


def test_an_interval_does_not_depend_on_the_rows_beside_it():
    rows = np.arange(12.0).reshape(3, 4) ** 2
    alone = bootstrap_means(rows[:1], 100, np.random.default_rng(5))
    beside = bootstrap_means(rows, 100, np.random.default_rng(5))
    assert alone[0][0] == beside[0][0]
    assert alone[1][0] == beside[1][0]


def three_rows(values=(1.0, 1.0, 1.0)):
    base = {"experiment": ["e"] * 3, "model": ["m"] * 3, "gpu": ["g"] * 3, "metric": ["x"] * 3, "unit": ["s"] * 3}
    return base | {name: [1.0] * 3 for name in ("alpha", "beta", "theta")} | {"value": list(values)}


def test_a_seed_without_a_phase_is_refused():
    with pytest.raises(UserError, match="seed 2 has no phase 'variation'"):
        over_seeds(
            three_rows() | {"phase": ["warmup", "variation", "warmup"], "step": [-1] * 3, "seed": [1, 1, 2]}, 10, 1
        )


def test_a_step_without_requests_in_one_seed_counts_the_others():
    rows = three_rows((1.0, 5.0, 3.0)) | {"phase": ["mirrored"] * 3, "step": [0, 1, 0], "seed": [1, 1, 2]}
    found = over_seeds(rows, 10, 1)
    assert found["step"] == [0, 1]
    assert found["mean"] == [2.0, 5.0]
    assert found["seeds"] == [2, 1]
    assert found["low"][1] is None


def test_planned_parameters_are_averaged_over_the_part(tmp_path):
    requests = [
        {"intended": 0, "outcome": "timeout", "alpha": 1, "beta": 2, "theta": 1.0},
        {"intended": 1, "outcome": "timeout", "alpha": 3, "beta": 4, "theta": None},
    ]
    cells, summary, _ = make(tmp_path, [write_cell(tmp_path, requests, [])])
    for rows in (cells, summary):
        assert (rows[0]["alpha"], rows[0]["beta"], rows[0]["theta"]) == (2, 3, 1)


def test_the_timeline_by_hand(tmp_path):
    requests = [
        {"intended": 1, "scheduled": 1, "first": 2, "done": 4, "tokens": 2, "alpha": 0.5, "phase": "warmup"},
        {"intended": 2, "done": 32, "outcome": "timeout", "alpha": 0.5, "phase": "warmup"},
        {"intended": 21, "scheduled": 21, "first": 23, "done": 33, "tokens": 4, "alpha": 2, "phase": "mirrored"},
    ]
    steps = [
        {"start": 1, "duration": 3, "prefill": 10, "decode": 2, "kv": 0.5, "running": 1, "waiting": 2},
        {"start": 21, "duration": 12, "prefill": 20, "decode": 4, "kv": 0.25, "running": 2},
    ]
    _, _, timeline = make(tmp_path, [write_cell(tmp_path, requests, steps)])
    columns = {name: [row[name] for row in timeline] for name in timeline[0]}
    assert columns["time_s"] == [0, 10, 20, 30]
    assert columns["width_s"] == [10] * 4
    assert columns["phase"] == ["warmup", "warmup", "mirrored", "mirrored"]
    assert columns["alpha"] == [0.5, 0.5, 2, 2]
    assert columns["arrivals"] == [2, 0, 1, 0]
    assert columns["completed"] == [1, 0, 0, 1]
    assert columns["failed"] == [1, 0, 0, 0]
    assert columns["failure_rate"] == [0.5, None, 0, None]
    assert columns["latency_s"] == [3, None, 12, None]
    assert columns["token_latency_s"] == [1.5, None, 3, None]
    assert columns["throughput_tokens_per_s"] == pytest.approx([1.2, 0, 24 * 9 / 12 / 10, 24 * 3 / 12 / 10])
    assert columns["kv_usage"] == pytest.approx([0.15, 0, 0.225, 0.075])
    assert columns["running"] == pytest.approx([0.3, 0, 1.8, 0.6])
    assert columns["waiting"] == pytest.approx([0.6, 0, 0, 0])


def test_before_the_first_request_nothing_is_planned_and_without_steps_the_state_is_unknown(tmp_path):
    _, _, timeline = make(tmp_path, [write_cell(tmp_path, [{"intended": 15, "done": 16, "tokens": 1}], [])])
    assert [row["alpha"] for row in timeline] == [None, 1]
    assert [row["phase"] for row in timeline] == [None, "warmup"]
    assert timeline[1]["kv_usage"] is None
    assert timeline[1]["throughput_tokens_per_s"] is None


def test_totals_over_the_timeline_are_those_of_the_run(tmp_path):
    rng = np.random.default_rng(2)
    intended = np.sort(rng.uniform(0, 300, 200)).round(6)
    requests = [
        {"intended": t, "done": t + rng.uniform(0, 40), "tokens": 3, "outcome": rng.choice(["ok", "timeout"])}
        for t in intended
    ]
    edges = np.cumsum(rng.uniform(0.01, 1, 400))
    steps = [{"start": t, "duration": 0.005, "decode": int(rng.integers(9)), "kv": 0.5} for t in edges]
    _, _, timeline = make(tmp_path, [write_cell(tmp_path, requests, steps)], interval_s=7)
    assert sum(row["arrivals"] for row in timeline) == 200
    assert sum(row["completed"] for row in timeline) == sum(row["outcome"] == "ok" for row in requests)
    assert sum(row["failed"] for row in timeline) == sum(row["outcome"] != "ok" for row in requests)
    tokens = sum(row["throughput_tokens_per_s"] * 7 for row in timeline)
    assert tokens == pytest.approx(sum(row["decode"] for row in steps))
    assert sum(row["kv_usage"] * 7 for row in timeline) == pytest.approx(400 * 0.005 * 0.5)


def test_the_order_of_cells_and_of_rows_does_not_matter(tmp_path):
    cells = [
        write_cell(tmp_path, answered(10 * seed) + answered(20, intended=5), [], seed=seed, gpu=gpu)
        for gpu in ("b", "a")
        for seed in (2, 1)
    ]
    first = make(tmp_path / "x", cells)
    path = cells[0][1] / "requests.parquet"
    REQUESTS.write(REQUESTS.read(path).take([1, 0]), path)
    assert first == make(tmp_path / "y", cells[::-1])
    for name in ("cells", "summary", "timeline"):
        assert (tmp_path / "x" / f"{name}.parquet").read_bytes() == (tmp_path / "y" / f"{name}.parquet").read_bytes()


@pytest.mark.parametrize(("key", "other"), [("seed", 9), ("model", "another"), ("gpu", "x"), ("experiment", "y")])
def test_a_run_of_another_cell_is_refused(tmp_path, key, other):
    cell = write_cell(tmp_path, answered(10), [])
    record = json.loads((cell[1] / "run.json").read_text())
    (cell[1] / "run.json").write_text(json.dumps(record | {key: other}))
    with pytest.raises(UserError, match=rf"run\.json: {key} is {other!r}, but .*plan\.json says"):
        make(tmp_path, [cell])


def test_a_run_without_an_identity_is_refused(tmp_path):
    cell = write_cell(tmp_path, answered(10), [])
    (cell[1] / "run.json").write_text("{}")
    with pytest.raises(UserError, match="key 'experiment' is missing"):
        make(tmp_path, [cell])


def test_the_same_cell_twice_is_refused(tmp_path):
    cell = write_cell(tmp_path, answered(10), [])
    with pytest.raises(UserError, match="again"):
        make(tmp_path, [cell, cell])


def test_requests_of_another_plan_are_refused(tmp_path):
    cell = write_cell(tmp_path / "a", answered(10) * 2, [])
    fewer = write_cell(tmp_path / "b", answered(10), [])
    with pytest.raises(UserError, match=r"1 requests, expected the 2 of .*; request_id 1"):
        make(tmp_path, [(cell[0], fewer[1])])
    late = write_cell(tmp_path / "c", answered(10) + answered(10, intended=1), [])
    with pytest.raises(UserError, match=r"request_id 1: intended_ns is 1000000000, expected the plan's 0\.0 s"):
        make(tmp_path, [(cell[0], late[1])])


def test_an_answer_without_an_end_is_refused(tmp_path):
    with pytest.raises(UserError, match="request_id 0: outcome is 'ok' without a done_ns"):
        make(tmp_path, [write_cell(tmp_path, answered(None), [])])


def test_a_phase_that_comes_back_is_refused(tmp_path):
    requests = [{"intended": t, "outcome": "timeout", "phase": phase} for t, phase in enumerate("aba")]
    with pytest.raises(UserError, match="row 2: phase 'a' again after 'b'"):
        make(tmp_path, [write_cell(tmp_path, requests, [])])
    requests = [{"intended": t, "outcome": "timeout", "step": step} for t, step in enumerate((0, 1, 0))]
    with pytest.raises(UserError, match="row 2: step 0 after step 1"):
        make(tmp_path, [write_cell(tmp_path, requests, [])])


def test_a_missing_file_and_an_impossible_interval_are_refused(tmp_path):
    cell = write_cell(tmp_path, answered(10), [])
    for interval in (0, -1):
        with pytest.raises(UserError, match="interval_s"):
            make(tmp_path, [cell], interval_s=interval)
    with pytest.raises(UserError, match="expected at most"):
        make(tmp_path, [cell], interval_s=1e-6)
    (cell[1] / "steps.parquet").unlink()
    with pytest.raises(ContractError, match=r"steps\.parquet: no such file"):
        make(tmp_path, [cell])


def test_the_verb(tmp_path, capsys):
    cell = write_cell(tmp_path, answered(10), [])
    settings = {"interval_s": 10, "bootstrap": 10, "goodput": {"ttft_s": 1, "tpot_s": 1}, "seed": 1}
    outputs = [f"--{name}={tmp_path / name}.parquet" for name in ("cells", "summary", "timeline")]
    main(["metrics", "summarise", "--settings", json.dumps(settings), "--cell", *map(str, cell), *outputs])
    assert SUMMARY.read(tmp_path / "summary.parquet").num_rows
    (cell[1] / "run.json").write_text("{")
    with pytest.raises(SystemExit) as stopped:
        main(["metrics", "summarise", "--settings", json.dumps(settings), "--cell", *map(str, cell), *outputs])
    assert stopped.value.code == 2
    assert "run.json: not JSON" in capsys.readouterr().err
