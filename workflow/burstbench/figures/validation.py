"""How well the simulated engine does: against a real server's log, kernel measurements, vLLM here, published times."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from burstbench.contracts import (
    VALIDATION_CPU_SERIES,
    VALIDATION_KERNELS,
    VALIDATION_LOG_SERIES,
    VALIDATION_PUBLISHED,
)
from burstbench.figures import style as looks
from burstbench.figures.inputs import Artifact, Columns, Inputs, caption, distinct, in_order, size, where
from burstbench.figures.style import Drawn, Style

GPU = Artifact(
    "validation_gpu",
    "The simulator beside a real vLLM on an H100 over time",
    {"validation_gpu_series": VALIDATION_LOG_SERIES},
)
LOG = Artifact(
    "validation_log",
    "The simulator beside the log of a real server over time",
    {"validation_log_series": VALIDATION_LOG_SERIES},
)
KERNELS = Artifact(
    "validation_kernels",
    "Error of the analytic step times against measured kernels",
    {"validation_kernels": VALIDATION_KERNELS},
)
CPU = Artifact(
    "validation_cpu",
    "A real vLLM on a processor beside the simulator fitted to another run of it",
    {"validation_cpu_series": VALIDATION_CPU_SERIES},
)
PUBLISHED = Artifact(
    "validation_published",
    "Published step times beside the simulator's",
    {"validation_published": VALIDATION_PUBLISHED},
)
MEASURED = "measured"
MEASURED_COLOUR = "#000000"
# Okabe-Ito: apart for every eye, and in grey.
COLOURS = ("#0072B2", "#E69F00", "#00664B", "#CC79A7", "#B34700", "#56B4E9")
LINES = ("-", (0, (4, 1.5)), (0, (1, 1)), "-.", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P")
GAUGES = (("running", "running\n(requests)"), ("waiting", "waiting\n(requests)"), ("kv_cache_pct", "KV cache (%)"))
OPERATORS = ("qkv", "attention output", "gate and up", "down", "element-wise")
MEASURED_GPUS = ("a100", "a40", "h100")
SHAPES = ("1/2 of a 7b layer", "1/4 of a 7b layer", "1/8 of a 7b layer", "13b layer")
ATTENTION = ("8 heads, 8 KV heads", "32 heads, 8 KV heads", "32 heads, 32 KV heads", "40 heads, 40 KV heads")
_PER_CENT = FuncFormatter(lambda value, _: f"{value:+.0f}" if value else "0")


def _gauges(rows: Columns, style: Style, server: str, shown: Sequence[tuple[str, str]]) -> Figure:
    """Draw gauges over time, a panel each: measured, and every variant of the simulator."""
    variants = [name for name in distinct(rows["variant"], (MEASURED,)) if name != MEASURED]
    figure, axes = looks.canvas(style, "double", 0.6 + len(shown), len(shown), 1, sharex=True)
    handles = [Line2D([], [], color=MEASURED_COLOUR, linewidth=1.6, alpha=0.55, label=f"measured ({server})")]
    for row, (quantity, text) in enumerate(shown):
        panel = axes[row, 0]
        for place, name in enumerate((MEASURED, *variants)):
            one = in_order(where(rows, quantity=quantity, variant=name), "time_s")
            look = (
                {"color": MEASURED_COLOUR, "linewidth": 1.8, "alpha": 0.5}
                if name == MEASURED
                else {"color": COLOURS[(0, 4)[place - 1]], "linestyle": LINES[place - 1], "linewidth": 0.9}
            )
            (line,) = panel.plot(one["time_s"], one["value"], **look)
            if row == 0 and name != MEASURED:
                line.set_label(f"simulated: {name}")
                handles.append(line)
        panel.set_ylabel(text)
        panel.set_ylim(bottom=0)
        panel.margins(x=0.01)
    axes[-1, 0].set_xlabel("time from the first request (s)")
    figure.align_ylabels(axes[:, 0])
    looks.legend(figure, handles)
    return figure


def _drawn(rows: Columns, figure: Figure, text: str) -> Drawn:
    return Drawn(figure, text, {name: list(rows[name]) for name in ("quantity", "variant", "time_s", "value")})


def gpu(inputs: Inputs, style: Style) -> Drawn:
    """Draw running requests and KV use of a real vLLM on a GPU over time, measured and simulated; none waited."""
    rows = inputs.read("validation_gpu_series")
    figure = _gauges(rows, style, "vLLM 0.32, H100", (GAUGES[0], GAUGES[2]))
    text = caption(
        "Requests running and KV-cache use of a real vLLM 0.32 that this pipeline started on an H100 (Llama-2-7b's "
        "shape, random weights, 790 requests, 20 a second, Gamma gaps) beside the simulator, which knows arrivals and "
        "lengths, with kernel times of an H100 and with its data sheet and another GPU's efficiencies",
        inputs.facts,
        (),
        "every half second",
        f"{size(where(rows, quantity='running', variant=MEASURED))} moments",
        "Nothing is fitted to the run. CUDA graphs without torch.compile, asynchronous scheduling.",
    )
    return _drawn(rows, figure, text)


def log(inputs: Inputs, style: Style) -> Drawn:
    """Draw running and waiting requests and KV use over time: measured, simulated, simulated with the host fitted."""
    rows = inputs.read("validation_log_series")
    figure = _gauges(rows, style, "vLLM 0.19", GAUGES)
    text = caption(
        "Requests running and waiting and KV-cache use of a real server (vLLM 0.19, Llama-3.1-8B on an RTX 4090, 300 "
        "requests) beside the simulator with the kernel times of the same GPU, without and with a fitted host time",
        inputs.facts,
        (),
        "every second of the log's gauges while the simulated run lasts",
        f"{size(where(rows, quantity='running', variant=MEASURED))} moments",
        "Log and kernel times: LLMServingSim (casys-kaist/LLMServingSim, MIT). The host time, one number, is fitted to "
        "the mean time per output token of this log; nothing else is.",
    )
    return _drawn(rows, figure, text)


def _errors(rows: Columns, over: str = "size") -> tuple[np.ndarray, np.ndarray]:
    """Return the sizes, and at each the error in % of the sum over the rows."""
    at = np.unique(rows[over])
    sums = {name: np.array([rows[name][rows[over] == one].sum() for one in at]) for name in ("measured", "simulated")}
    return at, 100 * (sums["simulated"] / sums["measured"] - 1)


def kernels(inputs: Inputs, style: Style) -> Drawn:
    """Draw the error by size: each operator of the layer on three GPUs, other shapes of it, and attention."""
    rows = inputs.read("validation_kernels")
    linear = {name: values[np.isin(rows["operator"], OPERATORS)] for name, values in rows.items()}
    gpus = distinct(linear["gpu"], MEASURED_GPUS)
    figure, axes = looks.canvas(style, "double", 4.9, 2, 3, sharey="row", strip_in=0.02)
    lists: dict[str, list] = {name: [] for name in ("panel", "gpu", "series", "size", "error")}

    def add(panel, name: str, gpu: str, series: str, x: np.ndarray, y: np.ndarray, **look) -> None:  # type: ignore[no-untyped-def]
        panel.plot(x, y, label=series, **({"linewidth": 0.9, "markersize": 2.2} | look))
        for one, error in zip(x, y, strict=True):
            for key, value in zip(lists, (name, gpu, series, float(one), float(error)), strict=True):
                lists[key].append(value)

    for column, gpu in enumerate(gpus):
        panel = axes[0, column]
        layer = where(linear, gpu=gpu, use="fitted")
        for place, operator in enumerate(OPERATORS):
            x, y = _errors(where(layer, operator=operator))
            add(panel, "operators", gpu, operator, x, y, color=COLOURS[place], linestyle=LINES[place])
        x, y = _errors(layer)
        add(panel, "operators", gpu, "whole layer", x, y, color="#000000", linewidth=1.8)
        looks.letter(panel, column, f"{gpu.upper()}: the fitted layer")
        panel.set_xlabel("tokens of the step")
    panel = axes[1, 0]
    for line, gpu in enumerate(gpus):
        for place, shape in enumerate(SHAPES):
            other = where(linear, gpu=gpu, shape=shape, use="predicted")
            if size(other):
                x, y = _errors(other)
                label = f"{shape.replace(' of a 7b layer', '')}, {gpu.upper()}"
                add(panel, "shapes", gpu, label, x, y, color=COLOURS[place], linestyle=LINES[line])
    looks.letter(panel, 3, "other shapes: parts of it, 13b")
    panel.set_xlabel("tokens of the step")
    for column, gpu in ((1, "a100"), (2, "h100")):
        panel = axes[1, column]
        place = 0
        for operator, text in (("prefill attention", "prompt, {0} on {1}"), ("decode attention", "decode, {0} on {1}")):
            attention = where(rows, operator=operator, gpu=gpu)
            for shape in [shape for shape in ATTENTION if shape in attention["shape"]]:
                one = where(attention, shape=shape)
                sizes = np.unique(one["size"])
                # Of several batches of one context: the median.
                middle = np.array([100 * np.median(one["error"][one["size"] == at]) for at in sizes])
                look = {"color": COLOURS[place], "linestyle": LINES[place], "marker": MARKERS[place]}
                heads = text.format(*(part.split()[0] for part in shape.split(", ")))
                add(panel, "attention", gpu, heads, sizes, middle, **look)
                place += 1
        looks.letter(panel, column + 3, f"{gpu.upper()}: attention")
        panel.set_xlabel("tokens of prompt or context")
    for row in axes:
        row[0].set_ylabel("error (%)")
    for panel in axes.flat:
        if panel.lines:
            panel.legend(
                loc="lower right", ncols=2, fontsize=5.5, handlelength=2.0, columnspacing=0.7, borderaxespad=0.2
            )
        panel.axhline(0, color=style.get("neutral"), linewidth=0.6, zorder=0)
        _powers(panel)
        panel.set_ylim(-85, 85)
        panel.yaxis.set_major_formatter(_PER_CENT)
    text = caption(
        "Relative error of the analytic kernel times, simulated / measured - 1: each operator of a Llama-2-7b layer, "
        "to which the model is fitted, on an A100, an A40 and an H100; the whole of 1/2, 1/4 and 1/8 of that layer and "
        "of a Llama-2-13b layer, shapes that no fit saw; attention on an A100 and an H100 by heads on KV heads, of "
        "single prompts and, median over batches, of decoding requests",
        inputs.facts,
        (),
        "sizes evenly spread as ratios",
        f"{size(rows)} measurements",
        "A100, A40: linear kernels of Vidur's profiles (microsoft/vidur, MIT), attention of vLLM 0.14 "
        "(ai-dynamo/aiconfigurator, Apache-2.0). H100: measured for this pipeline, kernels of vLLM 0.32. Fitted: the "
        "whole layer, prompts of up to 4,096 tokens, decoding with 8 heads on 8 KV heads (A100), 32 on 32 (H100). "
        "Llama-2 has as many KV heads as heads; 32 on 8 is a grouped model's shape: extrapolated.",
    )
    return Drawn(figure, text, lists)


def _powers(panel: Axes) -> None:
    """Make the x axis logarithmic, with whole powers of four at its marks."""
    panel.set_xscale("log", base=4)
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panel.xaxis.set_minor_locator(NullLocator())


def cpu(inputs: Inputs, style: Style) -> Drawn:
    """Draw the requests in the batch over time: the real server and the simulator, a panel a run."""
    rows = inputs.read("validation_cpu_series")
    runs = list(dict.fromkeys(rows["run"].tolist()))
    figure, axes = looks.canvas(style, "double", 0.6 + 1.15 * len(runs), len(runs), 1, sharex=True)
    for place, (panel, run) in enumerate(zip(axes[:, 0], runs, strict=True)):
        one = in_order(where(rows, run=run), "time_s")
        panel.step(one["time_s"], one["measured"], where="mid", color=MEASURED_COLOUR, linewidth=1.6, alpha=0.5)
        panel.step(one["time_s"], one["simulated"], where="mid", color=COLOURS[0], linewidth=0.8)
        panel.set_ylim(bottom=0)
        panel.margins(x=0.01)
        panel.set_ylabel("running\n(requests)")
        looks.letter(panel, place, run)
    axes[-1, 0].set_xlabel("time from the start of the run (s)")
    looks.legend(
        figure,
        [
            Line2D([], [], color=MEASURED_COLOUR, linewidth=1.6, alpha=0.5, label="measured (vLLM 0.32 on a CPU)"),
            Line2D([], [], color=COLOURS[0], linewidth=0.8, label="simulated, step times fitted to run (a)"),
        ],
    )
    text = caption(
        "Requests in the batch of a real vLLM 0.32 that serves a small random model on a processor, and of the "
        "simulator with step times fitted to the step log of the first run",
        inputs.facts,
        (),
        "every half second",
        f"{size(rows)} moments",
        "The other runs are predicted from arrivals and lengths alone.",
    )
    return Drawn(figure, text, {name: list(rows[name]) for name in ("run", "time_s", "measured", "simulated")})


def published(inputs: Inputs, style: Style) -> Drawn:
    """Draw simulated over published step times, one point each, by what was published."""
    rows = inputs.read("validation_published")
    groups: Sequence[tuple[str, str, str]] = list(
        dict.fromkeys(zip(rows["model"].tolist(), rows["gpu"].tolist(), rows["quantity"].tolist(), strict=True))
    )
    figure, axes = looks.canvas(style, "double", 3.0, 1, 2, strip_in=0.02)
    left, right = axes[0]
    limits = (rows["published_ms"].min() / 1.3, rows["published_ms"].max() * 1.3)
    left.plot(limits, limits, color=style.get("neutral"), linewidth=0.7, zorder=0)
    left.fill_between(limits, [0.9 * x for x in limits], [1.1 * x for x in limits], color=style.get("shade"), zorder=0)
    handles = []
    for place, (model, gpu, quantity) in enumerate(groups):
        one = where(rows, model=model, gpu=gpu, quantity=quantity)
        look = {"color": COLOURS[place], "marker": MARKERS[place], "markersize": 3.2, "linestyle": "none"}
        look["label"] = f"{model}, {gpu.upper()}, {quantity}"
        handles += left.plot(one["published_ms"], one["simulated_ms"], **look)
        x = one["requests"] if quantity == "decode" else one["tokens"]
        right.plot(x, 100 * one["error"], **(look | {"linestyle": LINES[0], "linewidth": 0.8}))
    left.set_xscale("log")
    left.set_yscale("log")
    ticks = [tick for tick in (10, 20, 50, 100, 200, 500) if limits[0] <= tick <= limits[1]]
    for axis in (left.xaxis, left.yaxis):
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_major_formatter(looks.thousands)
        axis.set_minor_locator(NullLocator())
    left.set_xlim(limits)
    left.set_ylim(limits)
    left.set_xlabel("published step time (ms)")
    left.set_ylabel("simulated step time (ms)")
    looks.letter(left, 0, "step times; band: within 10 %")
    right.axhspan(-10, 10, color=style.get("shade"), linewidth=0, zorder=0)
    right.axhline(0, color=style.get("neutral"), linewidth=0.7, zorder=0)
    _powers(right)
    right.yaxis.set_major_formatter(_PER_CENT)
    right.set_xlabel("requests in the batch (decode), tokens (prefill)")
    right.set_ylabel("error (%)")
    looks.letter(right, 1, "error: simulated / published − 1")
    left.legend(handles=handles, loc="upper left", fontsize=5.8)
    text = caption(
        "Step times that others published beside those of the analytic model, hits and misses alike",
        inputs.facts,
        (),
        "all points that we know with their batch and length",
        f"{size(rows)} points",
        "Nothing was fitted to them.",
    )
    names = ("model", "gpu", "quantity", "requests", "tokens", "published_ms", "simulated_ms", "error")
    return Drawn(figure, text, {name: list(rows[name]) for name in names})


FIGURES = ((GPU, gpu), (LOG, log), (KERNELS, kernels), (CPU, cpu), (PUBLISHED, published))
