"""Cells small enough to check by hand, written as the rooms before would."""

import json
from pathlib import Path

from burstbench.contracts import PLAN, REQUESTS, STEPS

S = 1_000_000_000


def write_cell(folder: Path, requests: list[dict], steps: list[dict], **cell) -> tuple[Path, Path]:
    """Write a cell; seconds in `requests` and `steps` become nanoseconds.

    A request has `intended` and may have `sent`, `scheduled`, `first`, `done`, `tokens`, `prompt`, `outcome`, `phase`,
    `step`, `alpha`, `beta`, `theta`, `preemptions`. A step has `start`, `duration` and may have the others.
    """
    cell = {"experiment": "warmup", "model": "m", "gpu": "g", "seed": 1} | cell
    plan_dir = folder / f"plan_{cell['model']}_{cell['gpu']}_{cell['seed']}"
    serve_dir = folder / f"serve_{cell['model']}_{cell['gpu']}_{cell['seed']}"
    for path, name in ((plan_dir, "plan.json"), (serve_dir, "run.json")):
        path.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(json.dumps(cell))

    def ns(row: dict, key: str) -> int | None:
        return round(row[key] * S) if row.get(key) is not None else None

    PLAN.write(
        {
            "request_id": list(range(len(requests))),
            "phase": [row.get("phase", "warmup") for row in requests],
            "step": [row.get("step", 0) for row in requests],
            "send_s": [float(row["intended"]) for row in requests],
            "prompt_tokens": [row.get("prompt", 5) for row in requests],
            "prompt_id": [0] * len(requests),
            "alpha": [float(row.get("alpha", 1)) for row in requests],
            "beta": [float(row.get("beta", 1)) for row in requests],
            "theta": [row.get("theta", 1.1) for row in requests],
            "max_tokens": [100] * len(requests),
        },
        plan_dir / "plan.parquet",
    )
    REQUESTS.write(
        {
            "request_id": list(range(len(requests))),
            "intended_ns": [ns(row, "intended") for row in requests],
            "sent_ns": [ns(row, "sent") for row in requests],
            "first_scheduled_ns": [ns(row, "scheduled") for row in requests],
            "first_token_ns": [ns(row, "first") for row in requests],
            "done_ns": [ns(row, "done") for row in requests],
            "prompt_tokens": [row.get("prompt", 5) for row in requests],
            "response_tokens": [row.get("tokens", 0) for row in requests],
            "preemptions": [row.get("preemptions") for row in requests],
            "outcome": [row.get("outcome", "ok") for row in requests],
        },
        serve_dir / "requests.parquet",
    )
    STEPS.write(
        {
            "step": list(range(len(steps))),
            "start_ns": [ns(row, "start") for row in steps],
            "duration_ns": [ns(row, "duration") for row in steps],
            "prefill_tokens": [row.get("prefill", 0) for row in steps],
            "decode_tokens": [row.get("decode", 0) for row in steps],
            "running": [row.get("running", 1) for row in steps],
            "waiting": [row.get("waiting", 0) for row in steps],
            "preempted": [0] * len(steps),
            "kv_usage": [float(row.get("kv", 0)) for row in steps],
            "free_blocks": [0] * len(steps),
            "gpu_memory_bytes": [None] * len(steps),
        },
        serve_dir / "steps.parquet",
    )
    return plan_dir, serve_dir
