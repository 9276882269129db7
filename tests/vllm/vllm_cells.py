"""Cells for the tests of the real engine: a plan, its pool and its settings, small enough for two cores."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from burstbench import contracts
from burstbench.files import write_json
from burstbench.serve import tiny
from burstbench.serve.gpus import Model

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-vllm/bin/python"
MODELS = yaml.safe_load((ROOT / "config/models.yaml").read_text())
GPUS = yaml.safe_load((ROOT / "config/gpus.yaml").read_text())
VOCABULARY = 32000


class Cell:
    """One cell in a folder of its own."""

    def __init__(self, folder: Path, lengths, send_s, max_tokens: int, **changes: Any) -> None:
        """Write plan, pool and replies.

        Args:
            folder: for all files.
            lengths: [n] prompt tokens.
            send_s: [n] ascending.
            max_tokens: of each response.
            changes: of the settings; those of `vllm` and `simulator` are merged.
        """
        self.folder, n = folder, len(lengths)
        self.sessions: set[int] = set()
        self.started: list[subprocess.Popen[str]] = []
        folder.mkdir(parents=True, exist_ok=True)
        identity = {"experiment": "warmup", "model": "tiny", "gpu": "cpu", "seed": 1}
        identity |= {key: changes.pop(key) for key in ("model", "gpu") if key in changes}
        vllm = {
            "python": str(PYTHON),
            "device": "cpu",
            "weights": "dummy",
            "max_num_seqs": 32,
            "max_num_batched_tokens": 2048,
            "memory_utilization": 0.9,
            "kv_cache_gib": 0.05,
            "prefix_caching": False,
            "scheduling": "sync",
            "timeout": {"kind": "total", "seconds": 30},
            "temperature": 1.0,
            "startup_s": 240,
            "lag_limit_s": None,  # server and client share two cores with other tests
        }
        simulator = {
            "scheduler": "v1",
            "host": "modern",
            "memory_utilization": 0.9,
            "timeout": {"kind": "total", "seconds": 30},
            "response_lengths": {"kind": "constant", "tokens": 1000},
        }
        self.settings = {
            **identity,
            "root_seed": 1,
            "engine": changes.pop("engine", "vllm"),
            "model_row": MODELS[identity["model"]],
            "gpu_row": GPUS.get(identity["gpu"]),
            "vllm": vllm | changes.pop("vllm", {}),
            "simulator": simulator | changes.pop("simulator", {}),
        }
        assert not changes
        contracts.PLAN.write(
            {
                "request_id": np.arange(n),
                "phase": ["warmup"] * n,
                "step": np.zeros(n, int),
                "send_s": np.asarray(send_s, float),
                "prompt_tokens": np.asarray(lengths),
                "prompt_id": np.zeros(n, int),
                "alpha": np.ones(n),
                "beta": np.ones(n),
                "theta": np.ones(n),
                "max_tokens": np.full(n, max_tokens),
            },
            folder / "plan.parquet",
        )
        write_json(folder / "plan.json", identity)
        _write_pool(folder / "pool.arrow", int(np.max(lengths)))
        contracts.REPLIES.write({"request_tokens": [10, 20], "reply_tokens": [30, 40]}, folder / "replies.parquet")

    def start(self, **environment: str) -> subprocess.Popen[str]:
        """Start the verb in a process of its own, as a rule does."""
        files = {
            "--plan": "plan.parquet",
            "--plan-record": "plan.json",
            "--pool": "pool.arrow",
            "--replies": "replies.parquet",
            "--requests": "out/requests.parquet",
            "--steps": "out/steps.parquet",
            "--engine": "out/engine.parquet",
            "--run": "out/run.json",
            "--server-log": "server.log",
        }
        (self.folder / "tmp").mkdir(exist_ok=True)
        command = [sys.executable, "-m", "burstbench", "serve", "vllm", "--settings", json.dumps(self.settings)]
        command += [text for flag, name in files.items() for text in (flag, str(self.folder / name))]
        given = os.environ | {"TMPDIR": str(self.folder / "tmp"), "PYTHONPATH": str(ROOT / "workflow")} | environment
        self.started.append(subprocess.Popen(command, env=given, text=True, stderr=subprocess.PIPE))
        return self.started[-1]

    def close(self) -> None:
        """End what a failed test left running."""
        for process in self.started:
            if process.poll() is None:
                process.terminate()
                process.communicate(timeout=90)

    def run(self, **environment: str) -> tuple[int, str]:
        """Run it; return its status and what it said."""
        process = self.start(**environment)
        _, said = process.communicate()
        return process.returncode, said

    @property
    def record(self) -> dict[str, Any]:
        """run.json."""
        return json.loads((self.folder / "out/run.json").read_text())

    def requests(self) -> pa.Table:
        """requests.parquet."""
        return contracts.REQUESTS.read(self.folder / "out/requests.parquet")

    def engine(self) -> pa.Table:
        """engine.parquet."""
        return contracts.ENGINE.read(self.folder / "out/engine.parquet")

    def steps(self) -> pa.Table:
        """steps.parquet."""
        return contracts.STEPS.read(self.folder / "out/steps.parquet")

    def processes(self) -> dict[int, str]:
        """Processes that serve this cell, by id, with their command lines.

        TMPDIR in their environment is the mark; the engine's process writes its title over that, and is known by its
        session, which is the server's.
        """
        mark = f"TMPDIR={self.folder / 'tmp'}".encode()
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                fields = (path / "stat").read_text().rpartition(")")[2].split()
                session = int(fields[3])
                marked = mark in (path / "environ").read_bytes().split(b"\0")
                if fields[0] != "Z" and (marked or session in self.sessions):
                    found[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                    if session != os.getsid(0):
                        self.sessions.add(session)
            except OSError:
                continue
        return found

    def leftovers(self) -> list[str]:
        """What a run must not leave behind: files in the place of its outputs, and its scratch folder."""
        out = self.folder / "out"
        written = [str(path) for path in out.rglob("*")] if out.exists() else []
        return written + [str(path) for path in (self.folder / "tmp").glob("burstbench-*")]


def write_weights(folder: Path) -> None:
    """Write the tiny model as a folder of the hub holds one, without its tokenizer; the weights are random."""
    model = Model.of(MODELS["tiny"], "tiny")
    tiny.write(folder, model, [tiny.EOS])
    h, rng = model.hidden, np.random.default_rng(3)
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (model.vocab, h), "lm_head.weight": (model.vocab, h), "model.norm.weight": (h,)
    }  # fmt: skip
    for layer in range(model.layers):
        at = f"model.layers.{layer}"
        shapes |= {f"{at}.{name}_layernorm.weight": (h,) for name in ("input", "post_attention")}
        shapes |= {f"{at}.self_attn.{name}_proj.weight": (h, h) for name in "qkvo"}
        shapes |= {f"{at}.mlp.{name}_proj.weight": (model.intermediate, h) for name in ("gate", "up")}
        shapes |= {f"{at}.mlp.down_proj.weight": (h, model.intermediate)}
    head: dict[str, Any] = {}
    body = b""
    for name, shape in shapes.items():
        data = rng.normal(0, 0.02, shape).astype("<f4").tobytes()
        head[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(head).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + body)


def _write_pool(path: Path, tokens: int) -> None:
    ids = np.random.default_rng(5).integers(300, VOCABULARY, tokens).astype(np.uint16)
    column = pa.LargeListArray.from_arrays(pa.array([0, tokens], pa.int64()), pa.array(ids))
    schema = pa.schema(
        [pa.field("tokens", column.type, False), pa.field("conversation", pa.int64(), False)],
        {"contract": "pool", "vocabulary": str(VOCABULARY), "tokenizer_sha256": "0" * 64, "format": "test"},
    )
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch([column, pa.array([0], pa.int64())], schema=schema))
