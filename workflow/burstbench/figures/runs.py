"""Figs. 16 and 17: the mirrored runs over time, and the effect of varying α, β and θ."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from burstbench.contracts import SUMMARY, TIMELINE
from burstbench.figures import style as looks
from burstbench.figures.inputs import Artifact, Columns, InputError, Inputs, caption, distinct, in_order, size, where
from burstbench.figures.style import Drawn, Style

FIG16 = Artifact(
    "fig16",
    "Conversation and API streams mirrored from the trace: load and service over time",
    {},
    {"mirror_conversation_timeline": TIMELINE, "mirror_api_timeline": TIMELINE},
    ("trace", "engine"),
)
FIG17 = Artifact(
    "fig17",
    "Effect of varying α, β and θ on latency, throughput and failures",
    {"vary_alpha_summary": SUMMARY, "vary_beta_summary": SUMMARY, "vary_theta_summary": SUMMARY},
    {},
    ("engine",),
)
SMOOTH_S = 60.0  # Fig. 16 draws means over a minute: one 20-minute window of the trace, compressed
SHORT = 10  # runs of fewer minutes are drawn on the grid of their timeline
FEW = 40  # values of a line of Fig. 16, below which each has a marker
# Column, label, scale factor, axis ("linear", "log"), weight of an interval in a mean over several.
TIMELINE_ROWS = (
    ("alpha", "α", 1.0, "linear", ""),
    ("beta", "β (s)", 1.0, "log", ""),
    ("kv_usage", "KV cache (%)", 100.0, "linear", ""),
    ("latency_s", "latency (s)", 1.0, "log", "arrivals"),
    ("throughput_tokens_per_s", "tokens/s", 1.0, "linear", ""),
    ("failure_rate", "failed (%)", 100.0, "linear", "arrivals"),
)
VARIED = (("alpha", "α", "alpha"), ("beta", "β, scale (s)", "beta"), ("theta", "θ", "theta"))
SUMMARY_ROWS = (  # metric, label, scale factor
    ("latency_mean", "mean latency (s)", 1.0),
    ("latency_p90", "p90 latency (s)", 1.0),
    ("latency_sd", "sd of latency (s)", 1.0),
    ("token_latency_mean", "latency per\ntoken (ms)", 1e3),
    ("throughput_tokens", "throughput\n(tokens/s)", 1.0),
    ("failure_rate", "failed (%)", 100.0),
)


def smooth(
    columns: Columns, name: str, weight: str, width_s: float, start_s: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the middle (s) and the mean of a column over windows of `width_s`, one of which starts at `start_s`.

    A rate is weighted by the requests it rests on; an interval without a value weighs nothing, and a window in which
    none has one is NaN.
    """
    if not len(columns["time_s"]):
        return np.zeros(0), np.zeros(0)
    window = np.floor((columns["time_s"] - start_s) / width_s + 1e-9).astype(np.int64)
    first = int(window.min())
    window -= first
    values = columns[name].astype(float)
    weights = np.where(np.isnan(values), 0.0, columns[weight].astype(float) if weight else columns["width_s"])
    count = int(window.max()) + 1
    total = np.bincount(window, weights, count)
    summed = np.bincount(window, weights * np.nan_to_num(values), count)
    mean = np.divide(summed, total, out=np.full(count, np.nan), where=total > 0)
    return start_s + (first + np.arange(count) + 0.5) * width_s, mean


def fig16(inputs: Inputs, style: Style) -> Drawn:
    """Draw Fig. 16: six stacked panels for each stream, a colour and line per GPU, seeds thin and their mean thick.

    A trace of one service has one stream.
    """
    tables = {stream: f"mirror_{stream}_timeline" for stream in ("conversation", "api")}
    streams = [(stream, inputs.read(table)) for stream, table in tables.items() if inputs.has(table)]
    if not streams:
        raise InputError(f"fig16: no table is given; give --table {' or '.join(tables.values())}")
    gpus = distinct(np.concatenate([rows["gpu"] for _, rows in streams]), ("a800", "a6000"))
    models = distinct(np.concatenate([rows["model"] for _, rows in streams]))
    figure, axes = looks.canvas(style, "double", 6.2, len(TIMELINE_ROWS), len(streams), sharex="col", sharey="row")
    lists: dict[str, list] = {name: [] for name in ("stream", "model", "gpu", "quantity", "seed", "time_s", "value")}
    lasted = max((float((rows["time_s"] + rows["width_s"]).max()) for _, rows in streams if size(rows)), default=0.0)
    grid = max((float(rows["width_s"][0]) for _, rows in streams if size(rows)), default=SMOOTH_S)
    smooth_s = SMOOTH_S if lasted >= SHORT * SMOOTH_S else grid
    for column, (stream, rows) in enumerate(streams):
        end = _warm_end(rows)
        for gpu in gpus:
            for model in models:
                cell = where(rows, gpu=gpu, model=model)
                _stream(axes[:, column], cell, end, smooth_s, stream, model, gpu, gpus, style, lists)
        _warmup(axes[:, column], end, style)
        looks.letter(axes[0, column], column, f"{style.service(stream).label} stream")
        axes[-1, column].set_xlabel("time from the start of the run (s)")
        axes[-1, column].set_xlim(0, float((rows["time_s"] + rows["width_s"]).max()) if size(rows) else 1)
    for row, (name, text, _, scale, _) in enumerate(TIMELINE_ROWS):
        panel = axes[row, 0]
        panel.set_ylabel(text)
        if scale == "log":
            looks.log_axis(panel, *_range(axes[row]))
        elif name in {"kv_usage", "failure_rate"}:
            panel.set_ylim(-2, 102)
            panel.set_yticks([0, 50, 100])
        else:
            panel.set_ylim(bottom=0)
        panel.yaxis.set_major_formatter(looks.thousands)
    figure.align_ylabels(axes[:, 0])
    for panel in axes[2]:
        if _empty(panel):
            continue
        panel.axhspan(30, 40, color=style.get("neutral"), alpha=0.25, linewidth=0, zorder=0)
    _say_why_empty(axes, inputs)
    handles: list = [
        Line2D(
            [],
            [],
            color=style.gpu(gpu, gpus).colour,
            linestyle=style.gpu(gpu, gpus).line,
            label=style.gpu(gpu, gpus).label,
        )
        for gpu in gpus
    ]
    handles.append(Line2D([], [], color="#555555", linewidth=0.5, alpha=0.6, label="single seeds"))
    looks.legend(figure, handles)
    seeds = distinct(np.concatenate([rows["seed"] for _, rows in streams]))
    names = ", ".join(style.model(model, models).label for model in models)
    requests = "; ".join(f"{stream} {int(rows['arrivals'].sum()):,}" for stream, rows in streams)
    mirrored = (
        "streams mirrored from the trace's conversation and API services"
        if len(streams) > 1
        else f"a stream mirrored from the trace's {style.service(streams[0][0]).label} service"
    )
    text = caption(
        f"{names} under {mirrored}: planned α and β, KV-cache "
        f"use, latency of answered requests, tokens processed, and failures; means over {smooth_s:g} s",
        inputs.facts,
        ("trace", "engine"),
        "all requests; latency: answered ones, by when they were due",
        f"{len(seeds)} seeds a line; requests: {requests}",
        "Shaded: warm-up at the initial α and β; grey band: 30–40 % KV-cache use, the paper's warm-up target. Each "
        "window of the average workday is compressed.",
    )
    return Drawn(figure, text, lists)


def _stream(panels, rows, warm_end, smooth_s, stream, model, gpu, gpus, style, lists) -> None:  # type: ignore[no-untyped-def]
    """Draw one cell's seeds and their mean into the six panels of a column."""
    if not size(rows):
        return
    look = style.gpu(gpu, gpus)
    seeds = [in_order(where(rows, seed=seed), "time_s") for seed in sorted(set(rows["seed"].tolist()))]
    for panel, (name, _, factor, _, weight) in zip(panels, TIMELINE_ROWS, strict=True):
        # The plan's parameters change at once: they keep the grid of the timeline.
        planned = name in {"alpha", "beta"}
        width = float(rows["width_s"][0]) if planned else smooth_s
        curves = [smooth(one, name, weight, width, warm_end) for one in seeds]
        x = max((time for time, _ in curves), key=len)
        stack = np.full((len(curves), len(x)), np.nan)
        for line, (_, values) in zip(stack, curves, strict=True):
            line[: len(values)] = values * factor
        known = ~np.isnan(stack)
        mean = np.divide(
            np.nansum(stack, axis=0), known.sum(axis=0), out=np.full(len(x), np.nan), where=known.any(axis=0)
        )
        if len(stack) > 1 and not planned:
            panel.plot(x, stack.T, color=look.colour, linewidth=0.4, alpha=0.5)
        drawn = "steps-mid" if planned else "default"
        # A line of one value is seen by its marker alone.
        dots = {"marker": "o", "markersize": 2.0} if len(x) < FEW else {}
        panel.plot(x, mean, color=look.colour, linestyle=look.line, linewidth=1.0, drawstyle=drawn, **dots)
        numbers = [(str(one["seed"][0]), line) for one, line in zip(seeds, stack, strict=True) if not planned]
        for seed, line in [*numbers, ("mean", mean)]:
            # A planned parameter is a step function: where it changes says it all.
            kept = np.append(True, line[1:] != line[:-1]) if planned else np.ones(len(x), bool)
            for time, value in zip(x[kept], line[kept], strict=True):
                for key, entry in zip(lists, (stream, model, gpu, name, seed, float(time), float(value)), strict=True):
                    lists[key].append(entry)


def _empty(panel: Axes) -> bool:
    """Whether no line of a panel has a value."""
    return not any(np.isfinite(np.asarray(line.get_ydata(), float)).any() for line in panel.lines)


def _say_why_empty(panels: np.ndarray, inputs: Inputs) -> None:
    """Write into the panels of a figure that have nothing to draw why they have not."""
    engine = inputs.facts["engine"]
    why = "not recorded by\nthis engine" if engine == "endpoint" else "no values"
    for panel in panels.flat:
        if _empty(panel):  # its axes are shared: ticks stay, their labels would say nothing
            panel.text(0.5, 0.5, why, ha="center", va="center", transform=panel.transAxes, fontsize=6.5)
            panel.tick_params(axis="y", which="both", left=False, labelleft=False)


def _range(panels: np.ndarray) -> tuple[float, float]:
    """Return the least and the largest positive value drawn in some panels."""
    drawn = np.array([value for panel in panels for line in panel.lines for value in line.get_ydata()], dtype=float)
    drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
    return (float(drawn.min()), float(drawn.max())) if drawn.size else (1.0, 10.0)


def _warm_end(rows: Columns) -> float:
    """Return where the warm-up ends, s; 0 without one.

    An interval without arrivals counts to the phase before, so the run in which a request comes soonest tells.
    """
    of = rows["phase"] == "warmup"
    runs = np.array(
        [f"{model} {gpu} {seed}" for model, gpu, seed in zip(rows["model"], rows["gpu"], rows["seed"], strict=True)]
    )
    ends = (rows["time_s"] + rows["width_s"])[of]
    return min((float(ends[runs[of] == run].max()) for run in np.unique(runs[of])), default=0.0)


def _warmup(panels, end: float, style: Style) -> None:  # type: ignore[no-untyped-def]
    """Shade the warm-up phase."""
    if end:
        for panel in panels:
            panel.axvspan(0, end, color=style.get("shade"), linewidth=0, zorder=0)
        panels[0].annotate(
            "warm-up",
            (end / 2, 0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=5.8,
            color="#444444",
        )


def fig17(inputs: Inputs, style: Style) -> Drawn:
    """Draw Fig. 17: a column per varied parameter; its value, then latency, throughput and failures, by step."""
    tables = [inputs.read(f"vary_{name}_summary") for name, _, _ in VARIED]
    pairs = sorted({pair for rows in tables for pair in zip(rows["model"], rows["gpu"], strict=True)}, key=_order)
    models = distinct(np.array([model for model, _ in pairs], object))
    gpus = distinct(np.array([gpu for _, gpu in pairs], object))
    figure, axes = looks.canvas(
        style,
        "double",
        7.2,
        len(SUMMARY_ROWS) + 1,
        3,
        sharex="col",
        fixed=True,
        sharey=False,
        height_ratios=(0.75, *([1.0] * len(SUMMARY_ROWS))),
    )
    lists: dict[str, list] = {
        name: []
        for name in (
            *("experiment", "varied", "model", "gpu", "phase", "step", "value", "metric", "unit"),
            *("mean", "low", "high", "seeds"),
        )
    }
    for column, ((varied, symbol, key), rows) in enumerate(zip(VARIED, tables, strict=True)):
        for model, gpu in pairs:
            cell = where(rows, model=model, gpu=gpu)
            _lines(axes[:, column], cell, (varied, key), (model, gpu), (models, gpus), style, lists)
        looks.letter(axes[0, column], column, f"varying {symbol.split(',')[0].split(' ')[0]}")
        axes[0, column].set_ylabel(symbol)
        if key != "theta":
            axes[0, column].set_ylim(bottom=0)
        axes[-1, column].set_xlabel("step of the variation")
        _steps(axes[-1, column], rows)
    for row, (metric, text, _) in enumerate(SUMMARY_ROWS, start=1):
        if metric == "token_latency_mean":  # differs by orders of magnitude once requests queue
            low, high = _range(axes[row])
            for panel in axes[row]:
                looks.log_axis(panel, low, high)
                panel.set_ylim(low / 1.5, high * 1.5)
        else:
            _same_limits(axes[row])
        axes[row, 0].set_ylabel(text)
        for panel in axes[row, 1:]:
            panel.tick_params(labelleft=False)
        for panel in axes[row]:
            panel.yaxis.set_major_formatter(looks.thousands)
    _say_why_empty(axes, inputs)
    for column in range(3):
        figure.align_ylabels(axes[:, column])
    handles: list = []
    for model, gpu in pairs:
        look, server = style.model(model, models), style.gpu(gpu, gpus)
        handles.append(
            Line2D(
                [],
                [],
                color=look.colour,
                linestyle=server.line,
                marker=look.marker,
                markersize=3,
                markerfacecolor=look.colour if server.filled else "#FFFFFF",
                label=f"{look.label}, {server.label}",
            )
        )
    looks.legend(figure, handles, handlelength=2.6)
    seeds = max((int(rows["seeds"].max()) for rows in tables if size(rows)), default=0)
    text = caption(
        "Effect of varying α, β and θ step by step: the parameter's value, then mean, 90th percentile and "
        "standard deviation of the request latency, latency per response token, tokens processed per second, and share "
        "of failed requests",
        inputs.facts,
        ("engine",),
        "requests by the step in which they were due; latencies of answered ones",
        f"{seeds} seeds a point",
        f"W: the warm-up before. {'Bands and bars' if seeds > 2 else 'Bars'}: 95 % bootstrap interval over the seeds"
        + (", with two seeds no more than their range." if seeds == 2 else "."),
    )
    return Drawn(figure, text, lists)


def _order(pair: tuple[str, str]) -> tuple[int, str, int, str]:
    model, gpu = pair
    models, gpus = ("llama-2-7b-chat", "llama-2-13b-chat"), ("a800", "a6000")
    return (
        models.index(model) if model in models else len(models),
        model,
        gpus.index(gpu) if gpu in gpus else len(gpus),
        gpu,
    )


def _lines(panels, cell, varied, pair, names, style, lists) -> None:  # type: ignore[no-untyped-def]
    """Draw one model and GPU into the panels of one column, warm-up mark included."""
    (experiment, key), (model, gpu), (models, gpus) = varied, pair, names
    look, server = style.model(model, models), style.gpu(gpu, gpus)
    paint = {
        "color": look.colour,
        "marker": look.marker,
        "markersize": 2.6,
        "markeredgewidth": 0.7,
        "markerfacecolor": look.colour if server.filled else "#FFFFFF",
        "linewidth": 0.9,
    }
    for place, (metric, _, factor) in enumerate((("", "", 1.0), *SUMMARY_ROWS)):
        rows = where(cell, metric=metric or SUMMARY_ROWS[0][0])
        warm = where(rows, phase="warmup", step=-1)
        steps = in_order({name: values[rows["step"] >= 0] for name, values in rows.items()}, "step")
        for part, line in ((warm, "none"), (steps, server.line)):
            if not size(part):
                continue
            x = part["step"] if line != "none" else np.full(size(part), -1.5)
            y = (part["mean"] if metric else part[key]) * factor
            panels[place].plot(x, y, linestyle=line, **paint)
            if metric:
                low, high = part["low"] * factor, part["high"] * factor
                if line != "none" and part["seeds"].max() > 2:
                    panels[place].fill_between(x, low, high, color=look.colour, alpha=0.25, linewidth=0)
                else:
                    panels[place].vlines(x, low, high, color=look.colour, linewidth=0.7)
                _numbers(lists, part, experiment, key, model, gpu)


def _numbers(lists: dict[str, list], part: Columns, experiment: str, key: str, model: str, gpu: str) -> None:
    for index in range(size(part)):
        values = (
            f"vary_{experiment}",
            key,
            model,
            gpu,
            part["phase"][index],
            int(part["step"][index]),
            float(part[key][index]),
            part["metric"][index],
            part["unit"][index],
            float(part["mean"][index]),
            float(part["low"][index]),
            float(part["high"][index]),
            int(part["seeds"][index]),
        )
        for name, value in zip(lists, values, strict=True):
            lists[name].append(value)


def _steps(panel: Axes, rows: Columns) -> None:
    """Label the steps, and W for the warm-up."""
    steps = sorted({int(step) for step in rows["step"] if step >= 0})
    shown = steps[:: max(1, len(steps) // 6)]
    panel.set_xticks([-1.5, *shown], ["W", *map(str, shown)])
    panel.set_xlim(-2.3, (steps[-1] if steps else 0) + 0.6)


def _same_limits(panels: np.ndarray) -> None:
    """Give the panels of a row one axis from 0 to above the highest."""
    top = max(panel.get_ylim()[1] for panel in panels)
    for panel in panels:
        panel.set_ylim(-0.03 * top, top)


FIGURES = ((FIG16, fig16), (FIG17, fig17))
