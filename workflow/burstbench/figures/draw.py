"""Draw one figure from its tables: PDF, SVG, PNG, the plotted numbers as CSV, and caption and inputs as JSON."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv as arrow_csv

from burstbench.errors import UserError
from burstbench.figures import (
    bursts,
    calendar,
    failures,
    generator,
    hourly,
    lengths,
    published,
    runs,
    sensitivity,
    style,
    validation,
)
from burstbench.figures.inputs import Artifact, Inputs, badge, by_name, facts_object, named_path
from burstbench.figures.style import Drawn, Style
from burstbench.files import replaced, write_json

Draw = Callable[[Inputs, Style], Drawn]
FIGURES: dict[str, tuple[Artifact, Draw]] = {
    artifact.id: (artifact, draw)
    for module in (calendar, hourly, bursts, lengths, failures, generator, runs)
    for artifact, draw in module.FIGURES
}
# Beside the paper's own figures: how close the trace comes to what is published.
SUPPLEMENT: dict[str, tuple[Artifact, Draw]] = {artifact.id: (artifact, draw) for artifact, draw in published.FIGURES}
# Beside those: how well the simulator does, and what hangs on its assumptions.
BESIDE: dict[str, tuple[Artifact, Draw]] = {
    artifact.id: (artifact, draw) for artifact, draw in (*validation.FIGURES, *sensitivity.FIGURES)
}


def draw_figure(
    figure_id: str, tables: Mapping[str, Path], facts: Mapping[str, Any], look: Path, matplotlibrc: Path, out: Path
) -> list[Path]:
    """Draw a figure and write it with its numbers and its record.

    Args:
        figure_id: fig01 … fig17, figS01, or a key of `BESIDE`.
        tables: paths by name.
        facts: the study's facts.
        look: `figures.yaml`.
        matplotlibrc: matplotlib's defaults.
        out: path without suffix; `.pdf .svg .png .csv .json` are written.

    Returns:
        The files written.

    Raises:
        UserError: unknown figure, wrong tables, facts or style, or a table that breaks its contract.
    """
    known = FIGURES | BESIDE | SUPPLEMENT
    if figure_id not in known:
        raise UserError(f"found figure {figure_id!r}, expected one of {', '.join(sorted(known))}")
    artifact, draw = known[figure_id]
    inputs = Inputs(artifact, tables, facts)
    settings = Style.read(look)
    style.apply(matplotlibrc)
    drawn = draw(inputs, settings)
    text = badge(artifact, facts)
    style.finish(drawn.figure)
    style.mark(drawn.figure, text)
    style.save(drawn.figure, out, int(settings.get("dpi")), artifact.title, f"{drawn.caption} {text}".strip())
    with replaced(out.with_name(f"{out.name}.csv")) as temporary:
        table = pa.table({name: pa.array(values, from_pandas=True) for name, values in drawn.numbers.items()})
        arrow_csv.write_csv(table, temporary, arrow_csv.WriteOptions(quoting_style="needed"))
    write_json(out.with_name(f"{out.name}.json"), inputs.record(text, artifact.title, drawn.caption))
    return [out.with_name(f"{out.name}.{suffix}") for suffix in ("pdf", "svg", "png", "csv", "json")]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("figure", metavar="FIG", help="fig01 … fig17, figS01, validation_…")
    parser.add_argument(
        "--table", type=named_path, action="append", metavar="NAME=PATH", help="a table it is made from"
    )
    parser.add_argument("--style", type=Path, required=True, help="figures.yaml")
    parser.add_argument("--matplotlibrc", type=Path, required=True, help="matplotlib's defaults")
    parser.add_argument("--facts", type=facts_object, required=True, help="the study's facts, a JSON object")
    parser.add_argument("--out", type=Path, required=True, help="path of the files, without suffix")


def run(args: argparse.Namespace) -> None:
    """Draw the figure."""
    draw_figure(args.figure, by_name(args.table), args.facts, args.style, args.matplotlibrc, args.out)
