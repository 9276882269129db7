"""Fig. 15: the workload generator and the server it loads, drawn by code."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from burstbench.figures import style as looks
from burstbench.figures.inputs import Artifact, Inputs
from burstbench.figures.style import Drawn, Style

FIG15 = Artifact("fig15", "The workload generator and the server under test")
WIDTH, HEIGHT = 100.0, 44.0
# name: left, bottom, width, height, title, lines below it, fill
BOXES = {
    "concurrency": (
        2,
        28.5,
        24.5,
        10.5,
        "Concurrency generator",
        "gaps ~ Gamma(α(t), β(t))\nmean αβ, CV 1/√α",
        "#DCEBF7",
    ),
    "sampler": (2, 14.8, 24.5, 10.5, "Prompt sampler", "lengths ~ Zipf(θ(t)),\ncut at the longest prompt", "#DCEBF7"),
    "pool": (2, 1.1, 24.5, 10.5, "Prompt pool", "index: token count → prompts;\ndialogues cut to length", "#DCEBF7"),
    "client": (
        34,
        14.8,
        15,
        24.2,
        "HTTP client",
        "asynchronous,\nopen loop:\neach request\nleaves when it\nis due",
        "#FBEBC8",
    ),
    "timeout": (59, 29.5, 17, 9.5, "Auto-timeout", "gives up a request\nafter 30 s", "#FFFFFF"),
    "engine": (59, 15.3, 17, 9.5, "Inference engine", "queue, batch,\nKV cache", "#FFFFFF"),
    "injection": (59, 1.1, 17, 9.5, "Metrics injection", "per request,\nper engine step", "#FFFFFF"),
    "metrics": (83.5, 1.1, 15.5, 23.7, "Metrics", "R  failure rate\n\nL  token latency\n\nP  throughput", "#E2F0E6"),
}
GROUPS = {  # a frame around boxes
    "generator": (0.4, 0.0, 50.2, 43.6, "Workload generator", "#3F6483"),
    "server": (57.4, 0.0, 20.2, 43.6, "Server", "#6E5F22"),
}
ARROWS = (  # from, to, text, where the text stands, how far it is moved along
    ((26.5, 33.7), (34, 33.7), "when", "above", 0.0),
    ((26.5, 20), (34, 20), "what", "above", 0.0),
    ((11, 14.8), (11, 11.6), "length", "left", 0.0),
    ((17.5, 11.6), (17.5, 14.8), "prompt", "right", 0.0),
    ((49, 20), (59, 20), "HTTP", "above", 0.0),
    ((59, 34.2), (49, 34.2), "answer,\ntimeout", "above", 0.0),
    ((67.5, 24.8), (67.5, 29.5), "", "", 0.0),
    ((67.5, 15.3), (67.5, 10.6), "", "", 0.0),
    ((76, 5.8), (83.5, 5.8), "records", "above", 0.8),
)


def fig15(inputs: Inputs, style: Style) -> Drawn:
    """Draw Fig. 15."""
    figure, axes = looks.canvas(style, "double", 3.1, strip_in=0.02, fixed=True)
    panel = axes[0, 0]
    panel.set_xlim(0, WIDTH)
    panel.set_ylim(-0.4, HEIGHT)
    panel.set_axis_off()
    for left, bottom, width, height, title, colour in GROUPS.values():
        panel.add_patch(
            FancyBboxPatch(
                (left, bottom),
                width,
                height,
                boxstyle="round,pad=0,rounding_size=1.2",
                facecolor="none",
                edgecolor=colour,
                linestyle=(0, (4, 2)),
                linewidth=0.9,
            )
        )
        panel.text(left + 1.2, bottom + height - 0.9, title, fontsize=7.5, va="top", fontweight="bold", color=colour)
    for name, (left, bottom, width, height, title, lines, fill) in BOXES.items():
        panel.add_patch(
            FancyBboxPatch(
                (left, bottom),
                width,
                height,
                boxstyle="round,pad=0,rounding_size=1",
                facecolor=fill,
                edgecolor="#333333",
                linewidth=0.8,
            )
        )
        tall = name in {"client", "metrics"}
        panel.text(left + width / 2, bottom + height - 1.2, title, ha="center", va="top", fontsize=7, fontweight="bold")
        panel.text(
            left + (2 if name == "metrics" else width / 2),
            bottom + (height - 3.5) / 2 + (0 if tall else 0.2),
            lines,
            ha="left" if name == "metrics" else "center",
            va="center",
            fontsize=6.3,
            linespacing=1.3,
        )
    for start, end, text, side, shift in ARROWS:
        _arrow(panel, start, end, text, side, shift)
    parts = [name for name in BOXES]
    numbers = {
        "part": parts,
        "title": [BOXES[name][4] for name in parts],
        "text": [" ".join(BOXES[name][5].split()) for name in parts],
    }
    text = (
        "The workload generator: the concurrency generator draws the gaps between requests, the prompt sampler their "
        "lengths, the prompt pool gives a prompt of that length, and the HTTP client sends it when it is due, whatever "
        "the server does. α, β and θ are functions of time or of the request's number. The server times out by itself "
        "and records metrics per request and per engine step, from which failure rate R, token latency L and "
        "throughput P come. "
        "Drawn by code after Fig. 15 of the paper; it shows no data."
    )
    return Drawn(figure, text, numbers)


def _arrow(
    panel: Axes, start: tuple[float, float], end: tuple[float, float], text: str, side: str, shift: float = 0
) -> None:
    """Draw an arrow with its text above it, moved by `shift`, or left or right of it."""
    panel.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=7, linewidth=0.9, color="#333333", shrinkA=0, shrinkB=0
        )
    )
    x, y = (start[0] + end[0]) / 2 + shift, (start[1] + end[1]) / 2
    paint: dict[str, Any] = {"fontsize": 6, "color": "#333333", "linespacing": 1.1}
    if side == "above":
        panel.text(x, y + 0.7, text, ha="center", va="bottom", **paint)
    elif side == "left":
        panel.text(x - 0.8, y, text, ha="right", va="center", **paint)
    elif side == "right":
        panel.text(x + 0.8, y, text, ha="left", va="center", **paint)


FIGURES = ((FIG15, fig15),)
