"""`burstbench doctor` on a machine without SLURM: every check that can be made, and what to do for each that fails."""

import argparse
import os
from pathlib import Path

import pytest
import yaml
from burstbench.commands import doctor


@pytest.fixture
def diagnose(tmp_path, monkeypatch, capsys):
    """A function that runs the doctor with a cluster's file; returns exit status and lines by check."""
    monkeypatch.setenv("PATH", str(tmp_path))  # no SLURM here, whatever is installed
    for name in ("HF_TOKEN", "BURSTBENCH_MIRROR", "SLURM_CONF"):
        monkeypatch.delenv(name, raising=False)

    def run(*words, **facts):
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(facts))
        monkeypatch.setenv("BURSTBENCH_CLUSTER", str(path))
        parser = argparse.ArgumentParser()
        doctor.add_arguments(parser)
        status = doctor.run(parser.parse_args(words))
        lines = [line for line in capsys.readouterr().out.splitlines() if line[:4] in ("ok  ", "FAIL")]
        return status, {line[6:].partition(": ")[0]: (line[:4].strip(), line.partition(": ")[2]) for line in lines}

    return run


def test_without_slurm_the_partitions_are_not_said_to_be_well(diagnose):
    status, lines = diagnose()
    assert status != 0
    assert lines["SLURM"][0] == "FAIL"
    assert "run this on a login node" in lines["SLURM"][1]
    assert lines["SLURM plugin"] == ("ok", "2.8.0")
    assert not any("partition" in name or "probe" in name for name in lines)


def test_every_failing_line_says_what_to_do(diagnose, tmp_path):
    _, lines = diagnose(weights=str(tmp_path / "models"))
    failing = {name: text for name, (verdict, text) in lines.items() if verdict == "FAIL"}
    assert f"set `weights` in {tmp_path / 'mine.yaml'}" in failing["weights"]
    assert "put the files of meta-llama/Llama-2-7b-chat-hf there" in failing["weights"]
    for text in failing.values():
        assert any(word in text for word in ("set ", "run ", "put ", "install ", "make ", "ask ")), text


def test_the_token_of_the_hub(diagnose, monkeypatch):
    assert "accept Llama 2's licence" in diagnose()[1]["weights"][1]
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    assert diagnose()[1]["weights"] == ("ok", "from the hub, HF_TOKEN is set")


def test_data_in_a_mirror_folder_counts(diagnose, monkeypatch, tmp_path):
    verdict, text = diagnose()[1]["data"]
    if verdict == "FAIL":
        assert "set BURSTBENCH_MIRROR to a folder that has them" in text
    for name, file in (
        ("burstgpt_1", "BurstGPT_1.csv"),
        ("sharegpt_full", "ShareGPT_V3_unfiltered_cleaned_split.json"),
        ("tokenizer_llama_2", "tokenizer.model"),
    ):
        (tmp_path / "mirror" / name).mkdir(parents=True)
        (tmp_path / "mirror" / name / file).write_text("")
    monkeypatch.setenv("BURSTBENCH_MIRROR", str(tmp_path / "mirror"))
    assert diagnose()[1]["data"][0] == "ok"


def test_the_command_that_fetches_names_the_study_that_was_given(diagnose, monkeypatch, root, tmp_path):
    monkeypatch.setattr(doctor.Layout, "dataset", lambda self, name: str(tmp_path / name))  # none is fetched
    monkeypatch.chdir(root / "config")
    overlay = tmp_path / "my study.yaml"
    overlay.write_text((root / "config/studies/paper.yaml").read_text())
    assert f"run `snakemake --configfile '{overlay}' " in diagnose("--configfile", str(overlay))[1]["data"][1]
    relative = diagnose("--configfile", "studies/paper.yaml")[1]["data"][1]
    assert "run `snakemake --configfile config/studies/paper.yaml " in relative


def program(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("scontrol", "expected"),
    [
        ("exec /bin/sleep 30", "`scontrol ping` did not answer within 1 s; try it by hand, or ask"),
        (None, "no scontrol here; run this on a login node"),
        ("echo 'Slurmctld(primary) at head is DOWN'; exit 1", "the controller does not answer: Slurmctld(primary)"),
    ],
    ids=["hangs", "is missing", "is down"],
)
def test_a_slurm_that_does_not_answer(scontrol, expected, diagnose, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor.cluster, "ANSWER_S", 1.0)
    for name, text in {"sinfo": "exit 0", "sbatch": "exit 0", "scontrol": scontrol}.items():
        if text:
            program(tmp_path / name, text)
    status, lines = diagnose()
    assert status == 3
    assert lines["SLURM"][0] == "FAIL"
    assert expected in lines["SLURM"][1]
    assert list(lines)[-1] == "SLURM", "nothing is asked after that"


def test_a_slurm_that_hangs_later(diagnose, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor.cluster, "ANSWER_S", 1.0)
    answer = 'case "$1" in ping | --version) echo UP;; *) exec /bin/sleep 30;; esac'
    for name, text in {"sinfo": answer, "sbatch": "exit 0", "scontrol": answer}.items():
        program(tmp_path / name, text)
    _, lines = diagnose("--gpus", "a800", "--no-probe")
    assert lines["SLURM"][0] == "ok"
    for name in ("job status", "partition of a800"):
        assert "did not answer within 1 s" in lines[name][1], name


HANG = "exec /bin/sleep 30"


@pytest.mark.parametrize(
    ("hanging", "programs"),
    [
        ("sbatch", {"sbatch": HANG}),
        ("squeue", {"sbatch": "echo 7", "squeue": HANG}),
        ("scancel", {"sbatch": "echo 7", "squeue": "echo PENDING", "scancel": HANG}),
    ],
)
def test_a_controller_that_hangs_while_the_probe_runs(hanging, programs, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(doctor.cluster, "ANSWER_S", 0.3)
    for name, text in programs.items():
        program(tmp_path / name, text)
    config = doctor.load([doctor.ROOT / "config/study.yaml", doctor.ROOT / "config/studies/paper.yaml"])
    with pytest.raises(
        doctor.UserError, match=rf"`{hanging} \S+` did not answer within 0\.3 s; try it by hand, or ask"
    ):
        doctor.probe(doctor.cluster.load(), config, "a800", within_s=0)


def test_a_full_disk(diagnose, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1e6})())
    verdict, text = diagnose()[1]["disk for results"]
    assert verdict == "FAIL"
    assert "0.0 GB free for results, expected 2.8 GB; make room there" in text


def test_a_wrong_file_is_the_first_line(diagnose):
    status, lines = diagnose(gpuss={})
    assert status != 0
    assert list(lines) == ["cluster's file"]
    assert lines["cluster's file"][0] == "FAIL"


def test_an_unknown_gpu(diagnose):
    assert "'h100' is not in" in diagnose("--gpus", "h100")[1]["GPUs"][1]


@pytest.mark.parametrize(
    ("text", "minutes"), [("infinite", None), ("30:00", 30), ("2:00:00", 120), ("1-00:00:00", 1440)]
)
def test_time_limits_of_slurm(text, minutes):
    assert doctor._minutes(text) == minutes


def test_the_interpreter_of_vllm(tmp_path):
    with pytest.raises(doctor.TroubleError, match=r"no such interpreter; install envs/vllm\.in there"):
        doctor.importable(tmp_path / "python")
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'No module named vllm' >&2; exit 1\n")
    python.chmod(0o755)
    with pytest.raises(doctor.TroubleError, match="cannot import vLLM: No module named vllm; install"):
        doctor.importable(Path(os.fspath(python)))
