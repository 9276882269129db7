"""Where the server's model comes from decides what the record says and whether the server gets the hub's token."""

import json
import sys
from pathlib import Path

import pytest
from burstbench.serve import vllm
from vllm_cells import Cell

STAND_IN = Path(__file__).parents[1] / "slurm/standin.py"


@pytest.mark.parametrize("place", ["hub", "the hub's cache", "the cluster's folder", "the study's folder"])
def test_only_a_server_that_loads_from_the_hub_gets_its_token(place, tmp_path, monkeypatch):
    """With a stand-in for vLLM, which reads no weights."""
    interpreter = tmp_path / "python"
    interpreter.write_text(f'#!/bin/sh\nexec {sys.executable} {STAND_IN} "$@"\n')
    interpreter.chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", str(vllm.PACKAGE.parent))
    model = tmp_path / "models/tiny"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    if place == "the cluster's folder":
        monkeypatch.setenv("BURSTBENCH_WEIGHTS", str(model.parent))
    monkeypatch.setattr(vllm.machine, "hub_folder", lambda *_: model if place == "the hub's cache" else None)
    weights = str(model) if place == "the study's folder" else "hub"
    cell = Cell(tmp_path / "cell", [8, 8], [0.0, 0.01], 3, vllm={"python": str(interpreter), "weights": weights})
    cell.settings["model_row"] = cell.settings["model_row"] | {"hub": "somebody/tiny"}
    names = ("plan.parquet", "plan.json", "pool.arrow", "requests.parquet", "steps.parquet", "run.json", "server.log")
    vllm.serve(cell.settings, *(cell.folder / name for name in names))
    record = json.loads((cell.folder / "run.json").read_text())
    origin = "the hub's weights" if "hub" in place else f"the weights in {model}"
    assert (
        record["statement"]
        == f"measured: a real vLLM server with tiny random Llama, {origin}, on the CPU; no GPU was used"
    )
    served = record["flags"][record["flags"].index("--model") + 1]
    offline = {name: record["environment"].get(name) for name in ("HF_HUB_OFFLINE", "HF_TOKEN")}
    if place == "hub":
        assert (served, record["weights"]) == ("somebody/tiny", "hub")
        assert offline == {"HF_HUB_OFFLINE": None, "HF_TOKEN": None}
    else:
        assert (served, record["weights"]) == (str(model), "hub" if "cache" in place else str(model))
        assert offline == {"HF_HUB_OFFLINE": "1", "HF_TOKEN": ""}
        assert list(record["model_files"]) == ["config.json"]
