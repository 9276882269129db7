"""Calibration: the search on functions with known answers, KV use by hand, and a whole small calibration."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from burstbench import contracts
from burstbench.serve import calibrate, scheduler
from burstbench.serve.calibrate import CalibrationError

CONFIG = Path(__file__).parents[2] / "config"


@pytest.mark.parametrize("start", [0.5, 6.96, 60.0])
def test_the_search_finds_a_known_scale(start):
    asked = []

    def use(scale):
        asked.append(scale)
        return 1 - math.exp(-3 / scale)

    found, probes = calibrate.search(use, 0.35, start)
    assert found == pytest.approx(-3 / math.log(0.65), rel=0.02)
    assert probes == len(asked) <= 16


def test_a_target_out_of_reach_is_said():
    assert calibrate.search(lambda scale: 0.1 / (1 + scale), 0.35, 2.0) == (None, 6)
    assert calibrate.search(lambda scale: 0.9, 0.35, 2.0) == (None, 6)


def test_kv_use_over_time_by_hand():
    steps = np.zeros((3, 8), dtype=np.int64)
    # 2 s at 30 of 100 blocks, 1 s idle, 4 s at 50, and 6 s at 80 of which 3 are within the ten.
    steps[:, scheduler.START] = np.array([0, 3, 7]) * 10**9
    steps[:, scheduler.DURATION] = np.array([2, 4, 6]) * 10**9
    steps[:, scheduler.USED] = [30, 50, 80]
    mean, low, high = calibrate.use_over_time(steps, 100, 10.0)
    assert mean == pytest.approx(0.06 + 0.2 + 0.24)
    assert high == pytest.approx(0.8)
    assert calibrate.use_over_time(steps, 100, 20.0) == pytest.approx(((0.6 + 2 + 4.8) / 20, 0.0, 0.8))
    assert low == 0.0


def test_a_whole_calibration(tmp_path):
    tokens = np.sort(np.random.default_rng(1).integers(1, 900, 3000))
    tokens[-1] = 900
    table = {column.name: np.zeros(3000, dtype=np.int64) for column in contracts.POOL_INDEX.columns}
    table |= {"tokens": tokens, "prompt_id": np.arange(3000)}
    contracts.POOL_INDEX.write(table, tmp_path / "pool_index.parquet")
    contracts.REPLIES.write({"request_tokens": [10, 20], "reply_tokens": [200, 300]}, tmp_path / "replies.parquet")
    files = {name: yaml.safe_load((CONFIG / f"{name}.yaml").read_text()) for name in ("models", "gpus", "study")}
    settings = {
        "root_seed": 3, "seeds": [1, 2], "target": 0.35, "seconds": 200, "max_tokens": 1024, "prompt_max_tokens": 900,
        "beta_kinds": ["scale", "mean_gap", "rate"], "models": files["models"], "gpus": files["gpus"],
        "initial": {"llama-2-13b-chat": {"a6000": {"alpha": 1.0, "beta": 5.0, "theta": 1.1}}},
        "simulator": files["study"]["engines"]["simulator"],
        "response_lengths": [{"kind": "empirical"}, {"kind": "constant", "tokens": 500}],
    }  # fmt: skip
    path = tmp_path / "calibration.csv"
    paths = (tmp_path / "pool_index.parquet", tmp_path / "replies.parquet")
    contracts.CALIBRATION.write(calibrate.calibrate(settings, *paths), path)
    rows = contracts.CALIBRATION.read(path).to_pylist()
    kinds = [(json.loads(row["response_lengths"])["kind"], row["beta_kind"]) for row in rows]
    assert kinds == [(lengths, kind) for lengths in ("empirical", "constant") for kind in ("scale", "mean_gap", "rate")]
    # Shape 1: the mean gap is the scale. The rate of 5 a second is a load far above.
    for name in ("beta_calibrated", "kv_usage"):
        assert rows[0][name] == rows[1][name]
    assert rows[2]["beta_calibrated"] == pytest.approx(1 / rows[0]["beta_calibrated"])
    assert rows[2]["kv_usage"] > 0.9
    rows = [row for row in rows if row["beta_kind"] == "scale"]
    for row in rows:
        assert row["kv_usage"] < 0.35
        assert row["beta_calibrated"] < 5.0
        assert row["kv_usage_calibrated"] == pytest.approx(0.35, abs=0.01)
        assert row["kv_usage_p10"] <= row["kv_usage"] <= row["kv_usage_p90"]
    # Longer responses need fewer requests.
    assert rows[1]["beta_calibrated"] > rows[0]["beta_calibrated"]
    with pytest.raises(CalibrationError, match=r"target: found 1\.5"):
        calibrate.calibrate(settings | {"target": 1.5}, *paths)
