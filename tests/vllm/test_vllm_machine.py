"""What a run says of its machine, and what it refuses."""

import sys
from pathlib import Path

import pytest
from burstbench.serve import machine
from burstbench.serve.vllm import Limits, RunError, all_or_none, check_gpu, flags
from vllm_cells import Cell

# As nvidia-smi prints it: index, name, MiB, driver, clocks in MHz, W, UUID.
LISTED = """0, NVIDIA A800-SXM4-80GB, 81920, 535.104.05, 1410, 1593, 400.00, GPU-aaaa
1, NVIDIA A800-SXM4-80GB, 81920, 535.104.05, 1410, 1593, 400.00, GPU-bbbb
"""


@pytest.mark.parametrize(
    ("allowed", "uuids"),
    [
        (None, ["GPU-aaaa", "GPU-bbbb"]),
        ("1", ["GPU-bbbb"]),
        ("1,0", ["GPU-bbbb", "GPU-aaaa"]),
        ("GPU-bbbb", ["GPU-bbbb"]),
    ],
)
def test_the_gpus_of_the_job_are_told_from_the_others(allowed, uuids):
    found = machine.visible(LISTED, allowed)
    assert [gpu["uuid"] for gpu in found] == uuids
    assert found[0]["gpu"] == "NVIDIA A800-SXM4-80GB"
    assert found[0]["driver"] == "535.104.05"


@pytest.mark.parametrize(("listed", "allowed"), [("", None), (LISTED, ""), (LISTED, "7")])
def test_no_gpu_is_an_error(listed, allowed):
    with pytest.raises(machine.MachineError, match="no GPU"):
        machine.visible(listed, allowed)


def test_nvidia_smi_describes_the_first_gpu(tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\ncat <<'END'\n{LISTED}END\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    found = machine.hardware(gpu=True)
    assert found["gpu"] == "NVIDIA A800-SXM4-80GB"
    assert found["gpu_memory_gib"] == 80.0
    assert found["gpus"] == 1
    assert found["memory_gib"] > 0


def test_a_machine_without_nvidia_smi_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(machine.MachineError, match="nvidia-smi is not installed"):
        machine.hardware(gpu=True)


def test_a_run_on_the_cpu_claims_no_gpu():
    found = machine.hardware(gpu=False)
    assert found["gpus"] == 0
    assert "CPU" in found["gpu"]


@pytest.mark.parametrize("found", ["NVIDIA A800-SXM4-80GB", "nvidia a800 sxm4 80gb"])
def test_the_right_gpu_passes(found):
    check_gpu({"name": "NVIDIA A800-SXM4-80GB", "label": "A800"}, found)


def test_one_gpu_is_not_measured_under_the_name_of_another():
    with pytest.raises(RunError, match=r"A6000.*expected 'NVIDIA A800"):
        check_gpu({"name": "NVIDIA A800-SXM4-80GB", "label": "A800"}, "NVIDIA RTX A6000")


def test_an_environment_without_vllm_is_refused(tmp_path):
    with pytest.raises(machine.MachineError, match="vLLM is not installed"):
        machine.environment(Path(sys.executable))
    with pytest.raises(machine.MachineError, match=r"no such file; .*\.venv-vllm"):
        machine.environment(tmp_path / "bin/python")


def test_weights_in_the_cache_of_the_hub_are_named_by_their_checksum(tmp_path):
    blob = tmp_path / "blobs" / ("ab" * 32)
    blob.parent.mkdir()
    blob.write_bytes(b"weights")
    folder = tmp_path / "snapshot"
    folder.mkdir()
    (folder / "model.safetensors").symlink_to(blob)
    (folder / "config.json").write_text("{}\n")
    assert machine.model_files(folder) == {
        "model.safetensors": "ab" * 32,
        "config.json": "ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356",
    }


def test_no_revision_outside_a_repository(tmp_path):
    assert machine.revision(tmp_path) == {}


@pytest.mark.parametrize(
    ("error", "raised", "text"),
    [(OSError(28, "No space left on device"), RunError, "No space left on device; nothing is kept"),
     (SystemExit(143), SystemExit, "143")],
    ids=["full disk", "stopped"],
)  # fmt: skip
def test_of_a_run_all_files_appear_or_none(tmp_path, error, raised, text):
    paths = (tmp_path / "requests", None, tmp_path / "run")
    with pytest.raises(raised, match=text), all_or_none(*paths):
        paths[0].write_text("rows")
        raise error
    assert list(tmp_path.iterdir()) == []
    with all_or_none(*paths):
        paths[0].write_text("rows")
    assert paths[0].exists()


@pytest.mark.parametrize(("engine", "part"), [("vllm", "vllm"), ("vllm-emulated", "simulator")])
def test_the_server_is_told_when_to_reject(tmp_path, engine, part):
    cell = Cell(tmp_path, [5], [0.0], 3, engine=engine, **{part: {"max_num_queued_reqs": 7}})
    found = flags(cell.settings, Limits(4, 64), "model", 1)
    assert found[found.index("--max-num-queued-reqs") + 1] == "7"
    assert "--max-num-queued-tokens" not in found
