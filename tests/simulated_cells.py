"""A world in which cells are simulated in memory, small enough for tests: what both the metrics and the paper try."""

from pathlib import Path

import numpy as np
import yaml
from burstbench import contracts

CONFIG = Path(__file__).parents[1] / "config"
MODEL, GPU, SEED = "llama-2-13b-chat", "a6000", 4


def write_inputs(folder):
    """Write an index of prompts and replies there; return the folder."""
    rng = np.random.default_rng(1)
    tokens = np.sort(rng.integers(1, 901, 2000))
    tokens[-1] = 900
    table = {column.name: np.zeros(2000, dtype=np.int64) for column in contracts.POOL_INDEX.columns}
    contracts.POOL_INDEX.write(table | {"tokens": tokens, "prompt_id": np.arange(2000)}, folder / "pool_index.parquet")
    replies = {name: rng.integers(1, 700, 500) for name in ("request_tokens", "reply_tokens")}
    contracts.REPLIES.write(replies, folder / "replies.parquet")
    return folder


def small_settings():
    """One experiment of one model on one GPU, two seeds."""
    files = {name: yaml.safe_load((CONFIG / f"{name}.yaml").read_text()) for name in ("models", "gpus", "study")}
    simulator = files["study"]["engines"]["simulator"]
    phases = [
        {"name": "warmup", "seconds": 60},
        {"name": "variation", "requests": 90, "every": 30, "alpha": {"kind": "quadratic", "extreme": 0.25}},
    ]
    return {
        "root_seed": 3, "initial": {MODEL: {GPU: {"alpha": 1.0, "beta": 1.0, "theta": 1.1}}}, "seeds": [SEED, 5],
        "phases": {"vary_alpha": phases}, "max_tokens": 1024, "prompt_max_tokens": 900, "models": files["models"],
        "gpus": files["gpus"], "simulator": simulator, "beta_kind": "scale", "cells": [["vary_alpha", MODEL, GPU]],
        "goodput": {"ttft_s": 1.0, "tpot_s": 0.1}, "bootstrap": 100,
    }  # fmt: skip
