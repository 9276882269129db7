"""Fig. 14: failure rates by service and model, with pools beside them and the spread of the days."""

import numpy as np
from matplotlib.lines import Line2D

from burstbench.contracts import DAILY_FAILURES, FAILURES, MODELS
from burstbench.figures import style as looks
from burstbench.figures.inputs import Artifact, Inputs, caption, distinct, number, size, where
from burstbench.figures.style import Drawn, Style

FIG14 = Artifact(
    "fig14",
    "Failure rate by service and model",
    {"failures": FAILURES, "daily_failures": DAILY_FAILURES},
    {},
    ("trace",),
)
PAPER_CONVERSATION_CHATGPT = 0.05  # section III-E: "over 5 % for ChatGPT service" in conversation
LEAST_REQUESTS = 20  # a day with fewer is drawn smaller: its rate says little


def fig14(inputs: Inputs, style: Style) -> Drawn:
    """Draw Fig. 14: one row per cell and pool; days as points, the whole as a mark with its Wilson interval."""
    rates, days = inputs.read("failures"), inputs.read("daily_failures")
    models = distinct(rates["model"], (*MODELS,))
    models = [model for model in models if model != "all"]
    services = [service for service in distinct(rates["service"], ("conversation", "api")) if service != "all"]
    groups = [
        [(service, model) for service in services for model in models],
        [(service, "all") for service in services] + [("all", model) for model in models] + [("all", "all")],
    ]
    rows = [pair for group in groups for pair in group if size(where(rates, service=pair[0], model=pair[1]))]
    figure, axes = looks.canvas(style, "single", 0.62 + 0.235 * len(rows))
    panel = axes[0, 0]
    lists: dict[str, list] = {
        name: [] for name in ("service", "model", "day", "requests", "failed", "rate", "low", "high")
    }

    def note(*values: object) -> None:
        for name, value in zip(lists, values, strict=True):
            lists[name].append(value)

    nan = float("nan")
    top = _place(rows, ("conversation", "ChatGPT"))
    least = 0.0 if top is None else PAPER_CONVERSATION_CHATGPT
    limit = _limit(rates["high"], days["rate"][days["requests"] >= LEAST_REQUESTS], least)
    beyond = 0
    for place, (service, model) in enumerate(rows):
        row = where(rates, service=service, model=model)
        pooled = "all" in (service, model)
        look = None if model == "all" else style.model(model, models)
        colour = look.colour if look else "#333333"
        rate, low, high = (float(row[name][0]) * 100 for name in ("rate", "low", "high"))
        note(service, model, 0, int(row["requests"][0]), int(row["failed"][0]), rate / 100, low / 100, high / 100)
        if not pooled:
            points = where(days, service=service, model=model)
            inside = points["rate"] * 100 <= limit
            beyond += int((~inside).sum())
            busy = points["requests"] >= LEAST_REQUESTS
            y = place + looks.spread(size(points), 0.5)
            for of, area in ((inside & busy, 4.0), (inside & ~busy, 1.0)):
                panel.scatter(points["rate"][of] * 100, y[of], s=area, color=colour, alpha=0.4, linewidths=0)
            if (~inside).any():
                panel.annotate(
                    f"{int((~inside).sum())} d ▸",
                    (limit, place),
                    ha="right",
                    va="center",
                    fontsize=5.5,
                    xytext=(0, 6),
                    textcoords="offset points",
                )
            for index in range(size(points)):
                note(
                    service,
                    model,
                    int(points["day"][index]),
                    int(points["requests"][index]),
                    int(points["failed"][index]),
                    float(points["rate"][index]),
                    nan,
                    nan,
                )
        panel.errorbar(
            [rate],
            [place],
            xerr=[[rate - low], [high - rate]],
            color="#000000",
            ecolor="#000000",
            capsize=2.5,
            linewidth=1.0,
            marker=look.marker if look else "D",
            markersize=4.2,
            markerfacecolor=colour,
            markeredgecolor="#000000",
            markeredgewidth=0.6,
            zorder=4,
        )
        panel.annotate(
            f"{rate:.2f} %",
            (1.02, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=6,
            annotation_clip=False,
        )
    split = sum("all" not in pair for pair in rows)
    panel.axhline(split - 0.5, color="#000000", linewidth=0.6)
    if top is not None:
        panel.plot([5, 5], [top - 0.42, top + 0.42], color="#000000", linewidth=0.9, linestyle=(0, (2, 1)), zorder=3)
    panel.set_yticks(range(len(rows)), [_name(style, service, model) for service, model in rows])
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.set_xlim(-0.012 * limit, limit)
    panel.set_xlabel("failed requests (%)")
    panel.grid(axis="y", visible=False)
    panel.tick_params(axis="y", length=0)
    handles = [
        Line2D([], [], color="#000000", marker="o", markerfacecolor="#FFFFFF", markersize=4, label="95 % Wilson"),
        Line2D([], [], linestyle="none", marker="o", color="#888888", markersize=2, label="one day"),
    ]
    if top is not None:
        handles.append(Line2D([], [], color="#000000", linestyle=(0, (2, 1)), linewidth=0.9, label="paper: > 5 %"))
    looks.legend(figure, handles)
    total = where(rates, service="all", model="all")
    count = f"{number(total['requests'][0])} requests, {number(total['failed'][0])} failed" if size(total) else ""
    text = caption(
        "Share of requests that failed (a response of 0 tokens) by service and model, and below the line pooled over "
        "models, services and both",
        inputs.facts,
        ("trace",),
        "all requests",
        count,
        f"Points: single days, smaller where the day has fewer than {LEAST_REQUESTS} requests"
        + (f"; {beyond} days lie right of the axis." if beyond else ".")
        + (" Dashed: the paper's lower bound for ChatGPT conversation." if top is not None else ""),
    )
    return Drawn(figure, text, lists)


def _limit(high: np.ndarray, daily: np.ndarray, least: float) -> float:
    """Return the end of the axis in per cent: all intervals, 97 % of the busy days, and at least `least` (a share)."""
    top = max(float(high.max()), float(np.quantile(daily, 0.97)) if len(daily) else 0, least) * 100
    return min(float(np.ceil(top * 1.08)), 100.0)


def _place(rows: list[tuple[str, str]], wanted: tuple[str, str]) -> int | None:
    return rows.index(wanted) if wanted in rows else None


def _name(style: Style, service: str, model: str) -> str:
    if service == model == "all":
        return "all requests"
    if model == "all":
        return f"{style.service(service).label}, pooled"
    return f"{model}, pooled" if service == "all" else f"{style.service(service).label}, {model}"


FIGURES = ((FIG14, fig14),)
