"""Where a job finds its weights, and that eight jobs of a node copy them once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from burstbench.errors import UserError
from burstbench.serve import weights

MODEL = "llama-2-7b-chat"


@pytest.fixture
def model(tmp_path):
    """A model of 64 MB, its weights a link into another folder, as in the hub's cache."""
    folder = tmp_path / "models" / MODEL
    folder.mkdir(parents=True)
    (tmp_path / "blob").write_bytes(os.urandom(1 << 20) * 64)
    (folder / "model.safetensors").symlink_to(tmp_path / "blob")
    (folder / "config.json").write_text("{}")
    return folder


def job(model, scratch):
    code = "import sys; from pathlib import Path; from burstbench.serve import weights;" \
        f"print(weights.copy(Path({str(model)!r}), Path({str(scratch)!r}), {MODEL!r}))"  # fmt: skip
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_eight_jobs_at_once_copy_once(model, tmp_path):
    scratch = tmp_path / "scratch"
    jobs = [job(model, scratch) for _ in range(8)]
    places = {each.communicate(timeout=60)[0].strip() for each in jobs}
    assert [each.returncode for each in jobs] == [0] * 8
    assert len(places) == 1
    place = places.pop()
    assert sorted(path.name for path in scratch.iterdir() if path.is_dir()) == [os.path.basename(place)]
    assert (scratch / place / "model.safetensors").read_bytes() == (tmp_path / "blob").read_bytes()
    assert not (scratch / place / "model.safetensors").is_symlink()
    written = (scratch / place).stat().st_ino
    assert str(weights.copy(model, scratch, MODEL)) == place
    assert (scratch / place).stat().st_ino == written


def test_a_killed_copy_leaves_nothing_that_counts(model, tmp_path):
    scratch = tmp_path / "scratch"
    os.truncate(tmp_path / "blob", 1 << 30)
    first = job(model, scratch)
    end = time.monotonic() + 30
    while not list(scratch.glob("*.part/model.safetensors")) and first.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    first.send_signal(signal.SIGKILL)
    first.wait()
    os.truncate(tmp_path / "blob", 1 << 20)
    place = weights.copy(model, scratch, MODEL)
    assert (place / "model.safetensors").stat().st_size == 1 << 20


def test_other_weights_get_a_copy_of_their_own(model, tmp_path):
    first = weights.copy(model, tmp_path / "scratch", MODEL)
    (model / "config.json").write_text('{"other": 1}')
    assert weights.copy(model, tmp_path / "scratch", MODEL) != first


def test_a_disk_too_small_is_said_before_anything_is_written(model, tmp_path, monkeypatch):
    monkeypatch.setattr(weights.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(UserError, match=r"scratch: found 0\.0 GB free, expected 0\.1 GB for llama-2-7b-chat"):
        weights.copy(model, tmp_path / "scratch", MODEL)
    assert [path.suffix for path in (tmp_path / "scratch").iterdir()] == [".lock"]


def test_the_places_of_a_model(model, tmp_path):
    folder = str(model.parent)
    hub = "meta-llama/Llama-2-7b-chat-hf"
    assert weights.find(MODEL, hub, "hub", None, {}) == weights.Source(hub, None, "hub")
    assert weights.find(MODEL, hub, "hub", model, {}) == weights.Source(str(model), model, "hub")
    given = weights.Source(str(model), model, str(model))
    assert weights.find(MODEL, hub, "hub", Path("/cache"), {"BURSTBENCH_WEIGHTS": folder}) == given
    assert weights.find(MODEL, hub, str(model), None, {}).folder == model
    scratch = {"BURSTBENCH_WEIGHTS": folder, "BURSTBENCH_SCRATCH": str(tmp_path / "scratch")}
    found = weights.find(MODEL, hub, "hub", None, scratch)
    assert found.model.startswith(str(tmp_path / "scratch" / MODEL))
    assert (found.folder, found.origin) == (model, str(model))
    with pytest.raises(UserError, match=r"13b: found no config\.json, expected the files of 13b"):
        weights.find("13b", hub, "hub", None, {"BURSTBENCH_WEIGHTS": folder})
