"""The verb: from a plan to requests.parquet, steps.parquet, intervals.parquet and run.json."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from burstbench import cli, contracts
from burstbench.serve.capacity import CapacityError
from burstbench.serve.simulate import SimulationError, simulate

CONFIG = Path(__file__).parents[2] / "config"
GPUS = yaml.safe_load((CONFIG / "gpus.yaml").read_text())
MODELS = yaml.safe_load((CONFIG / "models.yaml").read_text())
SIMULATOR = yaml.safe_load((CONFIG / "study.yaml").read_text())["engines"]["simulator"] | {"step_log": True}
CELL = {"experiment": "warmup", "model": "llama-2-13b-chat", "gpu": "a800", "seed": 1}


def write_plan(folder, prompts, gap_s=0.5, max_tokens=1024, **cell):
    count = len(prompts)
    contracts.PLAN.write(
        {
            "request_id": np.arange(count),
            "phase": ["warmup"] * count,
            "step": [0] * count,
            "send_s": gap_s * np.arange(count),
            "prompt_tokens": prompts,
            "prompt_id": [0] * count,
            "alpha": [1.0] * count,
            "beta": [1.0] * count,
            "theta": [1.1] * count,
            "max_tokens": [max_tokens] * count,
        },
        folder / "plan.parquet",
    )
    (folder / "plan.json").write_text(json.dumps(CELL | cell))
    rng = np.random.default_rng(7)
    request = rng.integers(1, 3000, 2000)
    contracts.REPLIES.write(
        {"request_tokens": request, "reply_tokens": rng.integers(1, 1800, 2000)}, folder / "replies.parquet"
    )


def settings(cell=None, gpu_row=None, **simulator):
    cell = CELL | (cell or {})
    return cell | {
        "root_seed": 5,
        "model_row": MODELS[cell["model"]],
        "gpu_row": gpu_row or GPUS[cell["gpu"]],
        "simulator": SIMULATOR | simulator,
    }


def run(folder, chosen, out="out"):
    target = folder / out
    simulate(
        chosen,
        folder / "plan.parquet",
        folder / "plan.json",
        folder / "replies.parquet",
        target / "requests.parquet",
        target / "steps.parquet",
        target / "intervals.parquet",
        target / "run.json",
    )
    return (
        contracts.REQUESTS.read(target / "requests.parquet"),
        contracts.STEPS.read(target / "steps.parquet"),
        json.loads((target / "run.json").read_text()),
    )


def test_a_cell(tmp_path):
    prompts = np.random.default_rng(3).integers(1, 3000, 300)
    write_plan(tmp_path, prompts, gap_s=2.0)
    requests, steps, record = run(tmp_path, settings())
    assert requests["request_id"].to_pylist() == list(range(300))
    assert requests["prompt_tokens"].to_pylist() == prompts.tolist()
    assert requests["intended_ns"].to_pylist() == [2_000_000_000 * number for number in range(300)]
    assert requests["sent_ns"].equals(requests["intended_ns"])
    responses = requests["response_tokens"].to_numpy()
    assert record["outcomes"] == {"ok": 300, "timeout": 0, "rejected": 0}
    assert responses.max() == 1024
    assert record["response_lengths"]["cut_by_limit"] == (responses == 1024).sum()
    assert record["response_lengths"]["statement"] == "response lengths drawn, not generated"
    assert record["response_lengths"]["mean_tokens"] == pytest.approx(responses.mean())
    assert steps["gpu_memory_bytes"].null_count == steps.num_rows == record["steps"]
    assert steps["prefill_tokens"].to_numpy().sum() == prompts.sum()
    assert record["capacity"]["usable_blocks"] * (1 - steps["kv_usage"].to_numpy()) == pytest.approx(
        steps["free_blocks"]
    )
    assert steps["decode_tokens"].to_numpy().sum() == (responses - 1).sum()
    assert record["simulated"] is True
    assert record["engine"] == "simulator"
    assert record["hardware"] == "simulated NVIDIA A800-SXM4-80GB"
    assert {key: record[key] for key in CELL} == CELL
    assert record["capacity"]["blocks"] == 3726
    assert record["limits"] == {
        "max_num_seqs": 1024, "max_num_batched_tokens": 8192, "max_num_queued_reqs": None,
        "max_num_queued_tokens": None, "max_model_len": 4096,
    }  # fmt: skip
    assert any("extrapolated" in warning for warning in record["warnings"])


def test_kv_use_is_a_share_of_the_blocks(tmp_path):
    write_plan(tmp_path, np.array([1600]))
    _, steps, record = run(tmp_path, settings(response_lengths={"kind": "constant", "tokens": 2}))
    assert record["capacity"]["usable_blocks"] == 3725
    assert steps["kv_usage"].to_pylist() == pytest.approx([100 / 3725, 101 / 3725])


def test_same_inputs_same_bytes_and_another_seed_others(tmp_path):
    write_plan(tmp_path, np.random.default_rng(3).integers(1, 3000, 100))
    run(tmp_path, settings(), "one")
    run(tmp_path, settings(), "two")
    for name in ("requests.parquet", "steps.parquet", "intervals.parquet", "run.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    (tmp_path / "plan.json").write_text(json.dumps(CELL | {"seed": 2}))
    one = contracts.REQUESTS.read(tmp_path / "one" / "requests.parquet")["response_tokens"]
    assert not run(tmp_path, settings({"seed": 2}))[0]["response_tokens"].equals(one)


@pytest.mark.parametrize("scheduler", ["v1", "v0"])
def test_sums_over_intervals_are_those_of_the_log_which_is_kept_on_demand(tmp_path, scheduler):
    write_plan(tmp_path, np.random.default_rng(8).integers(1, 3000, 60), gap_s=1.3)
    _, steps, record = run(tmp_path, settings(scheduler=scheduler), "log")
    _, none, shorter = run(tmp_path, settings(scheduler=scheduler, step_log=False), "sums")
    assert (none.num_rows, shorter.pop("step_log"), record.pop("step_log")) == (0, False, True)
    assert shorter == record
    kept = [(tmp_path / name / "intervals.parquet") for name in ("log", "sums")]
    assert kept[0].read_bytes() == kept[1].read_bytes()
    assert (tmp_path / "sums/steps.parquet").stat().st_size < (tmp_path / "log/steps.parquet").stat().st_size / 10
    sums = {name: np.array(values) for name, values in contracts.INTERVALS.read(kept[1]).to_pydict().items()}
    start, duration = (steps[name].to_numpy() for name in ("start_ns", "duration_ns"))
    assert (np.diff(sums["start_ns"]) == sums["duration_ns"][:-1]).all()
    assert set(range(0, int(start[-1]), 1_000_000_000)) <= set(sums["start_ns"].tolist())
    assert sums["start_ns"][-1] + sums["duration_ns"][-1] == start[-1] + duration[-1]
    assert sums["steps"].sum() == steps.num_rows
    for name in ("prefill_tokens", "decode_tokens", "preempted"):
        assert sums[name].sum() == pytest.approx(steps[name].to_numpy().sum())
    for name in ("running", "waiting", "kv_usage"):
        assert sums[name] @ sums["duration_ns"] == pytest.approx(steps[name].to_numpy() @ duration)


def test_a_response_ends_at_the_models_length(tmp_path):
    write_plan(tmp_path, np.array([4090, 4095]))
    requests, _, record = run(tmp_path, settings(response_lengths={"kind": "constant", "tokens": 500}))
    assert requests["response_tokens"].to_pylist() == [6, 1]
    assert record["response_lengths"]["cut_by_limit"] == 2


def test_both_schedulers_and_all_timeouts(tmp_path):
    write_plan(tmp_path, np.full(400, 2000), gap_s=0.01)
    found = {}
    for scheduler in ("v1", "v0"):
        for kind in ("none", "queue", "total"):
            chosen = settings(scheduler=scheduler, timeout={"kind": kind, "seconds": 30})
            requests, _, record = run(tmp_path, chosen)
            found[scheduler, kind] = record["outcomes"]["timeout"]
            late = np.array([outcome == "timeout" for outcome in requests["outcome"].to_pylist()])
            waited = requests["done_ns"].to_numpy() - requests["intended_ns"].to_numpy()
            assert (waited[late] == 30_000_000_000).all()
            assert record["scheduler"] == scheduler
        assert found[scheduler, "none"] == 0
        assert 0 < found[scheduler, "queue"] < found[scheduler, "total"]


def test_an_assumed_attention_is_said(tmp_path):
    write_plan(tmp_path, np.array([5]), gpu="a6000")
    assert any("not measured" in text for text in run(tmp_path, settings({"gpu": "a6000"}))[2]["warnings"])


def test_an_empty_plan(tmp_path):
    write_plan(tmp_path, np.array([], dtype=np.int64))
    requests, steps, record = run(tmp_path, settings())
    assert (requests.num_rows, steps.num_rows, record["requests"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scheduler": "v2"}, "simulator.scheduler: found 'v2', expected one of v1, v0"),
        ({"speed": 3}, "simulator: unknown key 'speed'"),
        ({"timeout": {"kind": "late", "seconds": 1}}, "simulator.timeout.kind: found 'late'"),
        ({"timeout": {"kind": "queue", "seconds": 0}}, "simulator.timeout.seconds: found 0"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, change, message):
    write_plan(tmp_path, np.array([5]))
    with pytest.raises(SimulationError, match=message):
        run(tmp_path, settings(**change))


def test_another_cells_plan_is_refused(tmp_path):
    write_plan(tmp_path, np.array([5]), seed=2)
    with pytest.raises(SimulationError, match=r"plan\.json: seed: found 2, expected 1"):
        run(tmp_path, settings())


def test_a_prompt_that_never_fits_is_refused(tmp_path):
    write_plan(tmp_path, np.array([5, 4096]))
    with pytest.raises(SimulationError, match=r"plan\.parquet: row 1 .* 4096 tokens, expected at most 4095"):
        run(tmp_path, settings())


def test_the_command_line(tmp_path, capsys):
    write_plan(tmp_path, np.array([5, 6, 7]))
    options = {
        "settings": json.dumps(settings()),
        "plan": tmp_path / "plan.parquet",
        "plan-record": tmp_path / "plan.json",
        "replies": tmp_path / "replies.parquet",
        "requests": tmp_path / "requests.parquet",
        "steps": tmp_path / "steps.parquet",
        "intervals": tmp_path / "intervals.parquet",
        "run": tmp_path / "run.json",
    }
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    cli.main(["serve", "simulate", *words])
    assert contracts.REQUESTS.read(tmp_path / "requests.parquet").num_rows == 3
    write_plan(tmp_path, np.array([5]), seed=9)
    with pytest.raises(SystemExit) as stop:
        cli.main(["serve", "simulate", *words])
    assert stop.value.code == 2
    assert "seed: found 9" in capsys.readouterr().err


def test_overrides_of_the_limits_and_prefix_caching(tmp_path):
    write_plan(tmp_path, [1500] * 200, gap_s=0.01)
    _, steps, record = run(tmp_path, settings(max_num_seqs=3, max_num_batched_tokens=700, prefix_caching=True))
    assert record["limits"]["max_num_seqs"] == 3
    assert record["limits"]["max_num_batched_tokens"] == 700
    assert record["prefix_caching"] is True
    assert max(steps["running"].to_pylist()) == 3
    tokens = steps["prefill_tokens"].to_numpy() + steps["decode_tokens"].to_numpy()
    assert tokens.max() == 700


@pytest.mark.parametrize("scheduler", ["v1", "v0"])
def test_a_full_server_rejects(tmp_path, scheduler):
    write_plan(tmp_path, [1500] * 60, gap_s=0.01)
    requests, steps, record = run(tmp_path, settings(scheduler=scheduler, max_num_queued_reqs=20))
    assert record["limits"]["max_num_queued_reqs"] == 20
    outcomes = np.array(requests["outcome"].to_pylist())
    assert record["outcomes"]["rejected"] == (outcomes == "rejected").sum() > 0
    assert (outcomes[:20] == "ok").all()
    refused = requests.filter(outcomes == "rejected")
    assert refused["done_ns"].equals(refused["sent_ns"])
    assert refused["first_scheduled_ns"].null_count == refused.num_rows
    assert max((steps["running"].to_numpy() + steps["waiting"].to_numpy()).tolist()) == 20
    _, _, record = run(tmp_path, settings(scheduler=scheduler, max_num_queued_tokens=3001))
    assert record["outcomes"]["rejected"] > 0


def test_response_lengths_measured_in_another_run(tmp_path):
    write_plan(tmp_path, [400] * 50, gap_s=30.0)
    chosen = {"kind": "constant", "tokens": 77}
    run(tmp_path, settings(response_lengths=chosen), out="first")
    file = str(tmp_path / "first/requests.parquet")
    requests, _, record = run(tmp_path, settings(response_lengths={"kind": "measured", "file": file}))
    assert set(requests["response_tokens"].to_pylist()) == {77}
    assert len(record["inputs"]["response_lengths.file"]) == 64


def test_step_times_fitted_to_another_run(tmp_path, capsys):
    prompts = np.random.default_rng(4).integers(1, 3000, 100)
    write_plan(tmp_path, prompts, gap_s=1.0)
    first, _, _ = run(tmp_path, settings(), out="first")
    files = {name: str(tmp_path / "first" / name) for name in ("steps.parquet", "run.json")}
    cli.main(
        ["serve", "fit", "--steps", files["steps.parquet"], "--run", files["run.json"], "--out", f"{tmp_path}/fit.json"]
    )
    fitted = json.loads((tmp_path / "fit.json").read_text())
    assert fitted["source"]["engine"] == "simulator"
    chosen = {"kind": "fitted", "file": f"{tmp_path}/fit.json"}
    again, _, record = run(tmp_path, settings(step_time=chosen))
    assert record["step_time"]["kind"] == "fitted"
    assert record["step_time"]["source"] == fitted["source"]
    latency = [
        np.nanmean(np.array(table["done_ns"].to_pylist(), float) - table["sent_ns"].to_numpy())
        for table in (first, again)
    ]
    assert latency[1] == pytest.approx(latency[0], rel=0.03)
    # Sent at once, they fill larger batches than the log had.
    write_plan(tmp_path, prompts, gap_s=0.0)
    _, _, record = run(tmp_path, settings(step_time=chosen))
    assert any("requests in a batch" in text for text in record["warnings"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step_time": {"kind": "table"}}, r"step_time: found .*'table'"),
        ({"step_time": {"kind": "roofline"}}, "step_time: found"),
        ({"step_time": {"kind": "fitted", "file": "none.json", "folder": "x"}}, "step_time: found"),
        ({"step_log": 1}, "step_log: found 1, expected true or false"),
        ({"max_num_seqs": 0}, "max_num_seqs: found 0"),
        ({"max_num_queued_reqs": 0}, "max_num_queued_reqs: found 0"),
        ({"max_num_queued_tokens": 1.5}, "max_num_queued_tokens: found 1.5"),
        ({"max_num_seqs": 100, "max_num_batched_tokens": 50}, "max_num_batched_tokens: found 50"),
        ({"scheduler": "v0", "prefix_caching": True}, "prefix_caching: found true"),
        ({"response_lengths": {"kind": "measured"}}, "response_lengths: found"),
    ],
)
def test_wrong_optional_settings_are_refused(tmp_path, change, message):
    write_plan(tmp_path, [10])
    with pytest.raises(SimulationError, match=message):
        run(tmp_path, settings(**change))


NEW_GPU = """
h200:
  label: H200
  name: NVIDIA H200
  memory_gib: 141
  visible_memory_gib: 139.8
  peak_tflops: 989.0
  bandwidth_gb_s: 4800.0
  linear: *linear_a100
  attention: *attention_a100
  attention_measured: false
  modern_kernels: false
"""


def test_a_new_gpu_and_a_new_model_are_entries_and_no_code(tmp_path):
    gpus = yaml.safe_load((CONFIG / "gpus.yaml").read_text() + NEW_GPU)
    model = MODELS["llama-2-13b-chat"] | {"label": "Mine", "hub": "mine/mine", "max_model_len": 2048}
    models = yaml.safe_load((CONFIG / "models.yaml").read_text() + yaml.safe_dump({"mine": model}))
    write_plan(tmp_path, np.full(40, 1500), gap_s=0.5, model="mine", gpu="h200")
    rows = {"model": "mine", "gpu": "h200", "model_row": models["mine"], "gpu_row": gpus["h200"]}
    requests, steps, record = run(tmp_path, settings() | rows)
    assert record["hardware"] == "simulated NVIDIA H200"
    assert record["limits"]["max_model_len"] == 2048
    assert set(requests["outcome"].to_pylist()) == {"ok"}
    assert any("not measured" in text for text in record["warnings"])
    # Of a card with 2.35 times the bandwidth and 3.2 times the peak; the launches take as long.
    _, other, _ = run(tmp_path, settings() | rows | {"gpu_row": gpus["a800"]})
    alone = [steps["duration_ns"].to_numpy()[1], other["duration_ns"].to_numpy()[1]]
    assert 1.5 < alone[1] / alone[0] < 2.35
    large = models["mine"] | {"parameters": 80_000_000_000}
    with pytest.raises(CapacityError, match="Mine does not fit on H200"):
        run(tmp_path, settings() | rows | {"model_row": large})
