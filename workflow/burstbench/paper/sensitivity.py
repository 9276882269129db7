"""`burstbench paper sensitivity`: the claims on served models under other assumptions of the simulator.

The study's verdicts rest on choices that the paper leaves open. Here each of them is changed in turn, and some at once;
every cell of the study is simulated again under each variant, in one process, and the tests of the scorecard are asked
the same questions. A claim that holds under all variants does not hang on a choice; one that holds under some does.
"""

import argparse
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from burstbench.cli import add_settings
from burstbench.contracts import SENSITIVITY
from burstbench.errors import UserError
from burstbench.metrics.runs import Cell
from burstbench.metrics.summarise import Columns, over_seeds, parts, timeline_of
from burstbench.metrics.sweep import World
from burstbench.paper.claims.evidence import NoDataError, Table, Tables
from burstbench.paper.scorecard import Claim, read_claims
from burstbench.progress import progress

FIRST_CLAIM = 14
# What the tests of these claims read of each experiment; others have nothing that is tested.
_VARIED = ("failure_rate", "latency_mean", "throughput_tokens")
METRICS: dict[str, tuple[str, ...]] = {
    "warmup": ("kv_usage_mean", "kv_usage_p10", "kv_usage_p90"),
    "mirror_conversation": ("failure_rate", "token_latency_mean"),
    "mirror_api": ("failure_rate", "token_latency_mean"),
    "vary_alpha": (*_VARIED, "latency_sd", "kv_usage_p90"),
    "vary_beta": _VARIED,
    "vary_theta": _VARIED,
}
HOLDS, FAILS, UNTESTED = "holds", "does not hold", "nothing to test"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's options."""
    add_settings(parser)
    parser.add_argument("--claims", type=Path, required=True, help="claims.yaml")
    parser.add_argument("--pool-index", type=Path, required=True, help="pool_index.parquet")
    parser.add_argument("--replies", type=Path, required=True, help="replies.parquet of the prompt pool")
    parser.add_argument("--gamma-profile", type=Path, help="gamma_profile.parquet, for mirrored experiments")
    parser.add_argument("--out", type=Path, required=True, help="sensitivity.parquet to write")


def run(args: argparse.Namespace) -> None:
    """Simulate every variant and ask the tests."""
    world = World(args.settings, args.pool_index, args.replies, args.gamma_profile)
    SENSITIVITY.write(sensitivity(args.settings, world, read_claims(args.claims)), args.out)


def sensitivity(settings: Mapping[str, Any], world: World, claims: tuple[Claim, ...]) -> Columns:
    """Test the claims on served models under every variant.

    Args:
        settings: of `World`, and cells (experiment, model, GPU), seeds, simulator, beta_kind, variants (a label and
            the keys of the simulator, or beta_kind, that it changes), interval_s, bootstrap, goodput.
        world: what the cells are made from.
        claims: of claims.yaml.

    Returns:
        Columns of contract `sensitivity`; the first variant is the study as it is.

    Raises:
        UserError: two variants have one label.
    """
    variants: list[dict[str, Any]] = [{"label": "as the study"}, *settings["variants"]]
    labels = [variant["label"] for variant in variants]
    for label in labels:
        if labels.count(label) > 1:
            raise UserError(f"sensitivity.variants: found the label {label!r} twice, expected each once")
    found: Columns = {column.name: [] for column in SENSITIVITY.columns}
    with progress("Simulating variants", len(variants), "variants") as report:
        for number, variant in enumerate(variants, 1):
            tables = _tables(settings, world, variant)
            for claim in claims:
                for part in claim.parts if claim.number >= FIRST_CLAIM else ():
                    if not all(name in tables for name in part.tables):
                        continue
                    try:
                        finding = part.test(tables, part.parameters)
                        verdict = {True: HOLDS, False: FAILS, None: UNTESTED}[finding.holds]
                        measured, reason = finding.measured, finding.reason
                    except NoDataError as error:
                        verdict, measured, reason = UNTESTED, "", str(error)
                    row = (variant["label"], claim.number, part.name, verdict, measured, reason)
                    for name, value in zip(found, row, strict=True):
                        found[name].append(value)
            report(number)
    return found


def _tables(settings: Mapping[str, Any], world: World, variant: Mapping[str, Any]) -> Tables:
    """Simulate all cells under one variant; return the tables that the tests read, by name."""
    changed = {key: value for key, value in variant.items() if key not in ("label", "beta_kind")}
    simulator = {**settings["simulator"], **changed}
    beta_kind = variant.get("beta_kind", settings["beta_kind"])
    good = settings["goodput"]
    cells: dict[str, Columns] = {}
    timelines: dict[str, Columns] = {}
    for experiment, model, gpu in settings["cells"]:
        for seed in settings["seeds"]:
            measured = world.run(Cell(experiment, model, gpu, seed), simulator, beta_kind)
            rows = cells.setdefault(experiment, defaultdict(list))
            for part in parts(measured, good["ttft_s"], good["tpot_s"], METRICS[experiment]):
                for name, values in part.items():
                    rows[name].extend(values)
            if experiment.startswith("mirror_"):
                over_time = timelines.setdefault(experiment, defaultdict(list))
                for name, values in timeline_of(measured, settings["interval_s"]).items():
                    over_time[name].extend(values)
    tables = {}
    for experiment, rows in cells.items():
        name = f"{experiment}_summary"
        tables[name] = Table(name, pa.table(over_seeds(rows, settings["bootstrap"], settings["root_seed"])))
    for experiment, rows in timelines.items():
        name = f"{experiment}_timeline"
        tables[name] = Table(name, pa.table(rows))
    return Tables.of(tables)
