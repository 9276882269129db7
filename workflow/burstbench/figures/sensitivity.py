"""Under which assumptions of the simulator the claims on served models hold."""

import numpy as np
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch, Rectangle

from burstbench.contracts import SENSITIVITY
from burstbench.figures import style as looks
from burstbench.figures.inputs import Artifact, Inputs, caption
from burstbench.figures.style import Drawn, Style

ARTIFACT = Artifact(
    "sensitivity",
    "Claims on served models under other assumptions",
    {"sensitivity": SENSITIVITY},
    {},
    ("trace", "engine"),
)
# Verdict: colour, sign. Blue and orange are apart for every eye, and the signs say the same.
LOOKS = {"holds": ("#0072B2", "+"), "does not hold": ("#F2C879", "–"), "nothing to test": ("#FFFFFF", "·")}


def sensitivity(inputs: Inputs, style: Style) -> Drawn:
    """Draw a tile for each part of a claim (down) and variant (across)."""
    rows = inputs.read("sensitivity")
    variants = list(dict.fromkeys(rows["variant"].tolist()))
    parts = list(dict.fromkeys(zip(rows["claim"].tolist(), rows["part"].tolist(), strict=True)))
    figure, axes = looks.canvas(style, "double", 1.4 + 0.17 * len(parts), 1, 1, fixed=True)
    panel = axes[0, 0]
    for claim, part, variant, verdict in zip(
        *(rows[name].tolist() for name in ("claim", "part", "variant", "verdict")), strict=True
    ):
        x, y = variants.index(variant), parts.index((claim, part))
        colour, sign = LOOKS[verdict]
        panel.add_patch(_tile(x, y, colour))
        panel.text(x, y, sign, ha="center", va="center", fontsize=6.5, color="#FFFFFF" if sign == "+" else "#333333")
    panel.set_xlim(-0.5, len(variants) - 0.5)
    panel.set_ylim(len(parts) - 0.5, -0.5)
    panel.set_xticks(range(len(variants)), variants, rotation=35, ha="right", rotation_mode="anchor", fontsize=6)
    panel.set_yticks(range(len(parts)), [f"{claim}: {part}" for claim, part in parts], fontsize=6)
    panel.grid(visible=False)
    panel.tick_params(length=0)
    for side in panel.spines.values():
        side.set_visible(False)
    for at in np.flatnonzero(np.diff([claim for claim, _ in parts])):
        panel.axhline(at + 0.5, color="#555555", linewidth=0.6)
    panel.axvline(0.5, color="#555555", linewidth=0.6)
    handles = [
        Patch(facecolor=colour, edgecolor="#888888", label=f"{sign} {verdict}")
        for verdict, (colour, sign) in LOOKS.items()
    ]
    looks.legend(figure, handles)
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    # The turned labels reach beyond what the layout makes room for.
    engine.set(rect=(0.025, 0, 0.975, 1 - looks.STRIP_IN / figure.get_size_inches()[1]))
    text = caption(
        "Which parts of claims 14 to 19 hold under other assumptions of the simulated engine, with the scorecard's own "
        "tests: each variant changes one assumption, or several, of the study",
        inputs.facts,
        ("trace", "engine"),
        "all cells of the study",
        f"{len(parts)} parts under {len(variants)} variants",
        "Nothing to test: what the test needs did not happen under that variant, such as a failure to recover from.",
    )
    return Drawn(figure, text, {name: list(rows[name]) for name in ("claim", "part", "variant", "verdict", "measured")})


def _tile(x: int, y: int, colour: str) -> Rectangle:
    return Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, edgecolor="#FFFFFF", linewidth=0.8)


FIGURES = ((ARTIFACT, sensitivity),)
