"""The cluster's file and the profiles that are filled from it."""

import subprocess

import pytest
import yaml
from burstbench import cluster
from burstbench.errors import UserError
from snakemake.profiles import ProfileConfigFileParser
from snakemake.settings.types import MaxJobsPerTimespan
from snakemake.shell import shell as snakemake_shell


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A function that names a cluster's file of one's own."""

    def write(**facts):
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(facts))
        monkeypatch.setenv("BURSTBENCH_CLUSTER", str(path))
        cluster.keeps_accounts.cache_clear()
        return path

    return write


def profile(root, name):
    with open(root / "profiles" / name / "config.yaml") as stream:
        return ProfileConfigFileParser().parse(stream)


def test_an_unknown_key_is_refused_with_key_and_file(mine):
    path = mine(gpus={"a800": {"partiton": "x", "partition": "x", "cpus": 1, "mem_mb": 1, "runtime": 1}})
    with pytest.raises(
        UserError, match=r"gpus\.a800\.partiton \(in .*mine\.yaml\): unknown key; known here: constraint"
    ):
        cluster.load()
    path.write_text("gpu_request: gpu\n")
    with pytest.raises(UserError, match=r"gpu_request \(in .*mine\.yaml\): 'gpu' is not one of \['gpus', 'gres'\]"):
        cluster.load()


def test_what_is_left_out_keeps_the_repositorys_value(mine):
    mine(gpus={"a800": {"partition": "long", "cpus": 4, "mem_mb": 1000, "runtime": 60}})
    facts = cluster.load()
    assert facts["gpus"]["a800"] == {
        "partition": "long", "type": "a800", "constraint": None, "cpus": 4, "mem_mb": 1000, "runtime": 60,
    }  # fmt: skip
    assert facts["gpus"]["a6000"]["partition"] == "a6000"
    assert facts["jobs"] == 8


ELSEWHERE = {"gpu": 0, "mem_mb": 4000, "runtime": 360}


def asked(gpu, attempt=1):
    """What a job with this GPU asks for in one attempt."""
    found = cluster.of_gpu(gpu, ELSEWHERE)
    return {key: value(None, attempt=attempt) if callable(value) else value for key, value in found.items()}


@pytest.mark.parametrize(
    ("how", "expected"), [("gpus", {"gpu": 1, "gpu_model": "a800"}), ("gres", {"gpu": 0, "gres": "gpu:a800:1"})]
)
def test_the_gpu_is_asked_for_by_gpus_or_gres(mine, monkeypatch, how, expected):
    monkeypatch.setenv(cluster.LIGHT, "local")
    mine(gpu_request=how)
    found = asked("a800")
    assert {key: found[key] for key in ("gpu", "gpu_model", "gres") if key in found} == expected


def test_account_qos_constraint_partition_and_limits_reach_the_jobs(mine, root, monkeypatch):
    monkeypatch.setenv(cluster.LIGHT, "local")
    row = {"partition": "long", "constraint": "a800&nvlink", "cpus": 4, "mem_mb": 1000, "runtime": 60}
    mine(account="p_1", qos="high", gpus={"a800": row}, light={"partition": "small"}, jobs=3, growth=2.0, requeue=False)
    own = {"slurm_partition": "long", "constraint": "a800&nvlink", "cpus_per_task": 4}
    assert asked("a800").items() >= (own | {"mem_mb": 1000, "runtime": 60}).items()
    assert asked("a800", attempt=3).items() >= (own | {"mem_mb": 4000, "runtime": 240}).items()
    found = profile(root, "slurm_a800")
    assert {"slurm_account='p_1'", "qos='high'", "slurm_partition='small'"} <= set(found["default-resources"])
    assert found["jobs"] == "3"
    assert (found.get("slurm-requeue"), found["slurm-no-requeue"]) == (None, "True")


def test_each_gpu_has_its_own_partition(root, monkeypatch):
    monkeypatch.setenv(cluster.LIGHT, "local")
    for gpu in ("a800", "a6000"):
        assert (asked(gpu)["slurm_partition"], asked(gpu)["gpu_model"]) == (gpu, gpu)
    assert profile(root, "slurm_both")["config"] == ["gpus=[a800, a6000]"]


def test_without_a_cluster_or_a_row_a_rule_keeps_its_own_resources(monkeypatch):
    monkeypatch.delenv(cluster.LIGHT, raising=False)
    assert cluster.of_gpu("a800", ELSEWHERE) == ELSEWHERE
    monkeypatch.setenv(cluster.LIGHT, "local")
    assert cluster.of_gpu("h100", ELSEWHERE) == ELSEWHERE


def test_a_light_job_asks_for_more_with_each_retry_on_a_cluster_alone(mine, monkeypatch):
    monkeypatch.delenv(cluster.LIGHT, raising=False)
    assert cluster.of_light(1000, 10) == {"mem_mb": 1000, "runtime": 10}
    monkeypatch.setenv(cluster.LIGHT, "cluster")
    mine(growth=2.0)
    found = cluster.of_light(1000, 10)
    asked = [{name: value(None, attempt=attempt) for name, value in found.items()} for attempt in (1, 3)]
    assert asked == [{"mem_mb": 1000, "runtime": 10}, {"mem_mb": 4000, "runtime": 40}]


def test_accounts_that_do_not_answer_in_time_are_none(tmp_path, monkeypatch):
    (tmp_path / "sacct").write_text("#!/bin/sh\nexec /bin/sleep 30\n")
    (tmp_path / "sacct").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(cluster, "ANSWER_S", 0.3)
    cluster.keeps_accounts.cache_clear()
    try:
        assert not cluster.keeps_accounts()
    finally:
        cluster.keeps_accounts.cache_clear()


@pytest.mark.parametrize(
    ("squeue", "said"),
    [
        ("exec /bin/sleep 30", r"`squeue --me` did not answer within 1 s"),
        ("echo error: no controller >&2; exit 1", "`squeue --me`: error: no controller; jobs of a killed"),
    ],
)
def test_leftovers_that_cannot_be_asked_for_are_an_error(tmp_path, monkeypatch, squeue, said):
    (tmp_path / "squeue").write_text(f"#!/bin/sh\n{squeue}\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(cluster.LIGHT, "local")
    monkeypatch.setattr(cluster, "ANSWER_S", 1.0)
    with pytest.raises(UserError, match=said):
        cluster.cancel_leftovers()


@pytest.mark.parametrize(
    ("a_minute", "expected"), [(60, "5/5s"), (100, "8/5s"), (12, "1/5s"), (7, "1/9s"), (1, "1/60s")]
)
def test_submissions_are_never_more_than_allowed(mine, root, a_minute, expected):
    mine(submit_per_minute=a_minute)
    found = profile(root, "slurm_a800")["max-jobs-per-timespan"]
    assert found == expected
    limit = MaxJobsPerTimespan.parse_choice(found)
    assert limit.max_jobs / limit.timespan <= a_minute / 60


def test_arrays_hold_no_job_back(mine, root):
    mine(arrays=True)
    found = profile(root, "slurm_both")
    assert found["slurm-array-jobs"] == "serve_vllm_a800,serve_vllm_a6000"
    assert int(found["jobs"]) >= 10_000


def test_places_reach_the_jobs_and_no_rules_parameters(mine, root):
    mine(
        weights="/models",
        scratch="/local/$USER",
        vllm_python="/opt/vllm/bin/python",
        environment="modules",
        modules=["cuda/12"],
    )
    assert cluster.prefix() == (
        'set -eo pipefail; export BURSTBENCH_VLLM_PYTHON="/opt/vllm/bin/python"; export BURSTBENCH_WEIGHTS="/models"; '
        'export BURSTBENCH_SCRATCH="/local/$USER"; '
        'type module > /dev/null 2>&1 || . "${MODULESHOME:-/usr/share/modules}/init/bash"; '
        "module load cuda/12; set -u; "
    )
    assert "models" not in str(profile(root, "slurm_a800"))


@pytest.mark.parametrize(
    ("environment", "expected"), [("venv", None), ("modules", None), ("conda", ["conda"]), ("apptainer", ["apptainer"])]
)
def test_the_environment_is_one_key(mine, root, environment, expected):
    mine(environment=environment)
    assert profile(root, "slurm_a6000").get("software-deployment-method") == expected
    assert ("python -m burstbench" in cluster.prefix()) == (expected is not None)


@pytest.fixture
def shell(monkeypatch):
    """Snakemake's shell, as it was before the test when that ends."""
    monkeypatch.setattr(snakemake_shell, "_process_prefix", snakemake_shell._process_prefix)
    return snakemake_shell


@pytest.mark.parametrize("environment", ["venv", "conda", "apptainer"])
def test_the_shell_of_a_job_stops_at_the_first_error_and_knows_the_command(mine, shell, environment):
    mine(environment=environment)
    cluster.set_prefix(shell)
    for wrong in ("false", "false | cat", "echo $NO_SUCH_VARIABLE"):
        with pytest.raises(subprocess.CalledProcessError):
            shell(f"{wrong}; echo reached", read=True)
    kind = "" if environment == "venv" else "function"
    assert shell("type -t burstbench || true", read=True).strip().replace("file", "") == kind


def test_a_module_is_loaded_where_the_function_was_dropped(mine, shell, monkeypatch, tmp_path):
    (tmp_path / "init").mkdir()
    (tmp_path / "init/bash").write_text('module() { test "$UNSET" || export LOADED="$*"; }\n')
    monkeypatch.setenv("MODULESHOME", str(tmp_path))
    mine(environment="modules", modules=["cuda/12", "python/3.11"])
    cluster.set_prefix(shell)
    assert shell('echo "$LOADED"', read=True) == "load cuda/12 python/3.11\n"
