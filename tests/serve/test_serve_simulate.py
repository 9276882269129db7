"""The verb: from a plan to requests.parquet, steps.parquet and run.json."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from burstbench import cli, contracts
from burstbench.serve.simulate import SimulationError, simulate

CONFIG = Path(__file__).parents[2] / "config"
GPUS = yaml.safe_load((CONFIG / "gpus.yaml").read_text())
MODELS = yaml.safe_load((CONFIG / "models.yaml").read_text())
SIMULATOR = yaml.safe_load((CONFIG / "study.yaml").read_text())["engines"]["simulator"]
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
    assert record["outcomes"] == {"ok": 300, "timeout": 0}
    assert responses.max() == 1024
    assert record["response_lengths"]["cut_by_limit"] == (responses == 1024).sum()
    assert record["response_lengths"]["statement"] == "response lengths drawn, not generated"
    assert record["response_lengths"]["mean_tokens"] == pytest.approx(responses.mean())
    assert steps["gpu_memory_bytes"].null_count == steps.num_rows == record["steps"]
    assert steps["prefill_tokens"].to_numpy().sum() == prompts.sum()
    assert steps["decode_tokens"].to_numpy().sum() == (responses - 1).sum()
    assert record["simulated"] is True
    assert record["engine"] == "simulator"
    assert record["hardware"] == "simulated NVIDIA A800-SXM4-80GB"
    assert {key: record[key] for key in CELL} == CELL
    assert record["capacity"]["blocks"] == 3726
    assert record["limits"] == {"max_num_seqs": 1024, "max_num_batched_tokens": 8192, "max_model_len": 4096}
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
    for name in ("requests.parquet", "steps.parquet", "run.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    (tmp_path / "plan.json").write_text(json.dumps(CELL | {"seed": 2}))
    one = contracts.REQUESTS.read(tmp_path / "one" / "requests.parquet")["response_tokens"]
    assert not run(tmp_path, settings({"seed": 2}))[0]["response_tokens"].equals(one)


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
