"""Fig. 15: the workload generator and the server it loads, drawn by code."""

from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from burstbench.figures import style as looks
from burstbench.figures.inputs import Artifact, Inputs
from burstbench.figures.style import Drawn, Style

FIG15 = Artifact("fig15", "The workload generator and the server under test")
WIDTH, HEIGHT = 100.0, 46.0
# name: left, bottom, width, height, title, lines below it, fill
BOXES = {
    "concurrency": (2, 29.5, 25, 11, "Concurrency generator", "gaps ~ Gamma(α(t), β(t))\nmean αβ, CV 1/√α", "#DCEBF7"),
    "sampler": (2, 15.5, 25, 11, "Prompt sampler", "lengths ~ Zipf(θ(t))\ncut at the longest prompt", "#DCEBF7"),
    "pool": (2, 1.5, 25, 11, "Prompt pool", "index: token count → prompts\ndialogues, cut to length", "#DCEBF7"),
    "client": (
        36,
        15.5,
        18,
        25,
        "HTTP client",
        "asynchronous,\nopen loop: sends\neach request when\nit is due",
        "#FBEBC8",
    ),
    "timeout": (64.5, 29.5, 16.5, 9.2, "Auto-timeout", "30 s", "#FFFFFF"),
    "engine": (64.5, 15.8, 16.5, 11.2, "Inference engine", "queue, batch,\nKV cache", "#FFFFFF"),
    "injection": (64.5, 3.0, 16.5, 10.2, "Metrics injection", "per request,\nper engine step", "#FFFFFF"),
    "metrics": (
        88,
        1.8,
        11,
        38.4,
        "Metrics",
        "R  failure\n    rate\n\nL  token\n    latency\n\nP  through-\n    put",
        "#E2F0E6",
    ),
}
GROUPS = {  # a frame around boxes
    "generator": (0.4, 0.2, 55.2, 44.6, "Workload generator", "#6C8EAD"),
    "server": (62.6, 0.2, 20.3, 44.6, "Server", "#8A7A3A"),
}


def fig15(inputs: Inputs, style: Style) -> Drawn:
    """Draw Fig. 15."""
    figure, axes = looks.canvas(style, "double", 3.3, strip_in=0.04)
    panel = axes[0, 0]
    panel.set_xlim(0, WIDTH)
    panel.set_ylim(0, HEIGHT)
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
        column = name == "metrics"
        panel.text(left + width / 2, bottom + height - 1.3, title, ha="center", va="top", fontsize=7, fontweight="bold")
        panel.text(
            left + (1.1 if column else width / 2),
            bottom + height - (6 if column else 4.9),
            lines,
            ha="left" if column else "center",
            va="top",
            fontsize=6.3,
            linespacing=1.25,
        )
    _arrow(panel, (27, 35), (36, 35), "when", above=True)
    _arrow(panel, (27, 21), (36, 21), "prompt", above=True)
    _arrow(panel, (11.5, 15.5), (11.5, 12.5), "length", above=False, side="left")
    _arrow(panel, (17.5, 12.5), (17.5, 15.5), "tokens", above=False, side="right")
    _arrow(panel, (54, 21.4), (64.5, 21.4), "HTTP", above=True)
    _arrow(panel, (64.5, 33.8), (54, 33.8), "answer,\ntimeout", above=True)
    _arrow(panel, (70, 27), (70, 29.5), "", above=True)
    _arrow(panel, (72.75, 15.8), (72.75, 13.2), "", above=True)
    _arrow(panel, (81, 8.1), (88, 8.1), "", above=True)
    parts = [name for name in BOXES]
    numbers = {
        "part": parts,
        "title": [BOXES[name][4] for name in parts],
        "text": [" ".join(BOXES[name][5].split()) for name in parts],
    }
    text = (
        "The workload generator: the concurrency generator draws the gaps between requests, the prompt sampler their lengths, "
        "the prompt pool gives a prompt of that length, and the HTTP client sends it when it is due, whatever the server does. "
        "α, β and θ are functions of time or of the request's number. The server times out by itself and records metrics "
        "per request and per engine step, from which failure rate R, token latency L and throughput P come. "
        "Drawn by code after Fig. 15 of the paper; it shows no data."
    )
    return Drawn(figure, text, numbers)


def _arrow(
    panel: Axes, start: tuple[float, float], end: tuple[float, float], text: str, above: bool, side: str = ""
) -> None:
    panel.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=7, linewidth=0.9, color="#333333", shrinkA=0, shrinkB=0
        )
    )
    if not text:
        return
    x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    if above:
        panel.text(x, y + 0.7, text, ha="center", va="bottom", fontsize=6, color="#333333", linespacing=1.1)
    else:
        left = side == "left"
        panel.text(
            x + (-0.8 if left else 0.8),
            y,
            text,
            ha="right" if left else "left",
            va="center",
            fontsize=6,
            color="#333333",
        )


FIGURES = ((FIG15, fig15),)
