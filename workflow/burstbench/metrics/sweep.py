"""Plan, simulate and measure many seeds of some experiments in one process.

A cell of the study is three jobs and their files; a simulated one takes a tenth of a second. Where many seeds or many
settings are wanted and their files are not, this does the same without the files: same plans, same draws, same engine,
same definitions, so that a seed here gives the numbers of the study's cell of that seed. It is no measurement.
"""

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from burstbench.contracts import GAMMA_PROFILE, POOL_INDEX
from burstbench.metrics.definitions import Engine, Requests
from burstbench.metrics.runs import Cell, Run
from burstbench.plan import make
from burstbench.seeds import generator
from burstbench.serve import responses, scheduler, simulate
from burstbench.serve.simulate import Server, nanoseconds


def repeats(settings: Mapping[str, Any], pool_index: Path, replies: Path, gamma_profile: Path | None) -> Iterator[Run]:
    """Simulate every cell of `settings` with every seed.

    Args:
        settings: of `World`, and cells (experiment, model, GPU), seeds, simulator, beta_kind.
        pool_index: path of contract `pool_index`.
        replies: path of contract `replies`.
        gamma_profile: path of contract `gamma_profile`, for mirrored experiments.
    """
    world = World(settings, pool_index, replies, gamma_profile)
    for experiment, model, gpu in settings["cells"]:
        for seed in settings["seeds"]:
            yield world.run(Cell(experiment, model, gpu, seed), settings["simulator"], settings["beta_kind"])


class World:
    """All that the simulated cells of a study are made from.

    Args:
        settings: root_seed, initial (model, GPU: alpha, beta, theta), phases (by experiment), max_tokens,
            prompt_max_tokens, models and gpus (rows by name).
        pool_index: path of contract `pool_index`.
        replies: path of contract `replies`.
        gamma_profile: path of contract `gamma_profile`, for mirrored experiments.
    """

    def __init__(
        self, settings: Mapping[str, Any], pool_index: Path, replies: Path, gamma_profile: Path | None = None
    ) -> None:
        self.settings = settings
        self.pool_index = POOL_INDEX.read(pool_index)
        self.profile = GAMMA_PROFILE.read(gamma_profile) if gamma_profile else None
        self.replies = functools.cache(lambda lengths: simulate.replies(json.loads(lengths), replies)[:3])
        self._plans: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._drawn: dict[tuple[Any, ...], npt.NDArray[np.int64]] = {}

    def plan(self, cell: Cell, beta_kind: str) -> dict[str, Any]:
        """Return the plan of a cell: columns of contract `plan`."""
        key = (*cell, beta_kind)
        if key not in self._plans:
            settings = self.settings
            self._plans[key], _ = make.make(
                {
                    **cell._asdict(),
                    "root_seed": settings["root_seed"],
                    "initial": settings["initial"][cell.model][cell.gpu],
                    "phases": settings["phases"][cell.experiment],
                    "max_tokens": settings["max_tokens"],
                    "prompt_max_tokens": settings["prompt_max_tokens"],
                    "beta_kind": beta_kind,
                },
                self.pool_index,
                self.profile,
                None,
            )
        return self._plans[key]

    def run(self, cell: Cell, simulator: Mapping[str, Any], beta_kind: str) -> Run:
        """Simulate a cell and return what became of it, as `metrics.runs.read_run` reads it from files.

        Args:
            cell: which.
            simulator: engines.simulator of the study.
            beta_kind: plan.beta_kind of the study.
        """
        settings = self.settings
        names = {
            "model": cell.model, "gpu": cell.gpu,
            "model_row": settings["models"][cell.model], "gpu_row": settings["gpus"][cell.gpu],
        }  # fmt: skip
        server = Server.of(names, simulator)
        plan = self.plan(cell, beta_kind)
        prompt = plan["prompt_tokens"]
        lengths = json.dumps(simulator["response_lengths"], sort_keys=True)
        drawn = (*cell, beta_kind, lengths)
        if drawn not in self._drawn:
            rng = generator(settings["root_seed"], "serve", *cell, "responses")
            drawn_as, asked, replied = self.replies(lengths)
            self._drawn[drawn] = responses.draw(drawn_as, prompt, asked, replied, rng)
        response = np.minimum(
            self._drawn[drawn], np.minimum(settings["max_tokens"], server.model.max_model_len - prompt)
        )
        arrival = nanoseconds(plan["send_s"])
        parts = simulate.begins(plan["phase"], np.asarray(plan["step"]), arrival)
        result = server.serve(arrival, prompt, response, parts)
        return measured(cell, plan, arrival, result, server.limits.blocks)


def measured(
    cell: Cell, plan: Mapping[str, Any], arrival: npt.NDArray[np.int64], result: scheduler.Run, blocks: int
) -> Run:
    """Return a simulated run in the form that metrics are defined on."""
    sent = arrival.astype(np.float64)
    requests = Requests(
        intended=sent,
        sent=sent,
        scheduled=_happened(result.first_scheduled_ns),
        first_token=_happened(result.first_token_ns),
        done=_happened(result.done_ns),
        response_tokens=result.response_tokens.astype(np.float64),
        preemptions=result.preemptions.astype(np.float64),
        ok=result.outcomes == 0,
    )
    sums = {name: values.astype(np.float64) for name, values in simulate.intervals(result, blocks).items()}
    engine = Engine.of(
        sums["start_ns"],
        sums["duration_ns"],
        sums["prefill_tokens"] + sums["decode_tokens"],
        sums["kv_usage"],
        sums["running"],
        sums["waiting"],
        requests,
    )
    phases = plan["phase"].dictionary_encode()
    theta = plan["theta"].to_numpy(zero_copy_only=False).astype(np.float64)
    end = max(float(sent.max()), float(np.nanmax(requests.done, initial=0)), float(engine.edges[-1]))
    return Run(
        cell,
        phases.indices.to_numpy().astype(np.int64),
        np.asarray(plan["step"]),
        phases.dictionary.to_pylist(),
        plan["alpha"],
        plan["beta"],
        theta,
        requests,
        engine,
        end,
    )


def _happened(values: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.where(values < 0, np.nan, values.astype(np.float64))
