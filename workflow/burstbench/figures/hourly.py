"""Figs. 3, 4 and 10-13: requests and tokens of each hour of the day, as box plots over the workdays.

The paper does not say which days its boxes span. Its section V-A speaks of "all workdays in Figure 4"; the published
medians of the conversation service add up to a workday's total, not to that of all days; and boxes of hours in which
requests are rare start above 0. So a box holds the workdays' hours with at least one request, here and in the
comparison of the trace with the published numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from burstbench.contracts import HOURLY_COUNTS, MODELS
from burstbench.figures import style as looks
from burstbench.figures.inputs import (
    PUBLISHED_HOURLY_BOXES,
    PUBLISHED_READING_ERRORS,
    PUBLISHED_SERVICES,
    Artifact,
    Columns,
    Inputs,
    caption,
    distinct,
    number,
    reading_error,
    reading_error_text,
    where,
)
from burstbench.figures.style import Drawn, Style


@dataclass(frozen=True)
class Quantity:
    """What is counted: its column, the published table's name for it, its axis label, where the log scale starts."""

    column: str
    published: str
    title: str
    axis: str
    linear_to: float


REQUESTS = Quantity("requests", "hourly_request_count", "Requests", "requests per hour", 10)
REQUEST_TOKENS = Quantity("request_tokens", "hourly_request_tokens", "Request tokens", "request tokens per hour", 1e4)
RESPONSE_TOKENS = Quantity(
    "response_tokens", "hourly_response_tokens", "Response tokens", "response tokens per hour", 1e3
)
PANELS = {
    3: (REQUESTS, "conversation"),
    4: (REQUESTS, "api"),
    10: (REQUEST_TOKENS, "conversation"),
    11: (REQUEST_TOKENS, "api"),
    12: (RESPONSE_TOKENS, "conversation"),
    13: (RESPONSE_TOKENS, "api"),
}
WORKDAYS = 5  # Monday to Friday
QUARTILES = ("q1", "median", "q3")


def box(values: np.ndarray) -> dict[str, float | np.ndarray]:
    """Return quartiles, Tukey's whiskers (the last value within 1.5 interquartile ranges) and the values beyond."""
    if not values.size:
        nothing = dict.fromkeys(("q1", "med", "q3", "whislo", "whishi", "mean"), np.nan)
        return {**nothing, "fliers": values}
    q1, median, q3 = np.percentile(values, [25, 50, 75])
    reach = 1.5 * (q3 - q1)
    inside = values[(values >= q1 - reach) & (values <= q3 + reach)]
    low, high = min(inside.min(), q1), max(inside.max(), q3)
    return {
        "q1": q1,
        "med": median,
        "q3": q3,
        "whislo": low,
        "whishi": high,
        "fliers": values[(values < low) | (values > high)],
        "mean": values.mean(),
    }


def draw_hours(inputs: Inputs, style: Style, quantity: Quantity, service: str) -> Drawn:
    """Draw one quantity of one service: a panel per model, a box per hour.

    The API panels have a logarithmic axis that is linear near 0: their days differ by orders of magnitude.
    """
    counts = where(inputs.read("hourly_counts"), service=service)
    workdays = len(set(counts["day"][counts["weekday"] <= WORKDAYS].tolist()))
    kept = (counts["weekday"] <= WORKDAYS) & (counts["requests"] > 0)
    counts = {name: values[kept] for name, values in counts.items()}
    models = distinct(counts["model"], MODELS)
    published = inputs.read("published_hourly_boxes") if inputs.has("published_hourly_boxes") else None
    figure, axes = looks.canvas(style, "double", 2.35, 1, max(len(models), 1))
    lists: dict[str, list] = {
        name: []
        for name in (
            *("service", "model", "hour", "days", "whisker_low", "q1", "median", "q3", "whisker_high", "mean"),
            *("beyond_whiskers", "published_q1", "published_median", "published_q3", "published_reading_error"),
        )
    }
    overlaid = False
    for place, model in enumerate(models):
        panel = axes[0, place]
        look = style.model(model, models)
        rows = where(counts, model=model)
        boxes = [box(rows[quantity.column][rows["hour"] == hour].astype(float)) for hour in range(24)]
        artists = panel.bxp(
            boxes,
            positions=np.arange(24),
            widths=0.62,
            patch_artist=True,
            manage_ticks=False,
            boxprops={"facecolor": look.colour, "alpha": 0.45, "edgecolor": look.colour, "linewidth": 0.6},
            medianprops={"color": "#000000", "linewidth": 1.0},
            whiskerprops={"color": look.colour, "linewidth": 0.7},
            capprops={"color": look.colour, "linewidth": 0.7},
            flierprops={
                "marker": ".",
                "markersize": 2.2,
                "markerfacecolor": look.colour,
                "markeredgecolor": "none",
                "alpha": 0.6,
            },
        )
        for patch in artists["boxes"]:
            patch.set_hatch(look.hatch)
        paper = _paper(published, quantity, service, model)
        shown = ~np.isnan(paper["median"])
        overlaid = overlaid or bool(shown.any())
        error = reading_error(inputs, "hourly_boxes", quantity.published, service, model)
        for key in QUARTILES:
            low, high = np.maximum(paper[key] - error, 0), paper[key] + error
            panel.vlines(np.arange(24) + 0.4, low, high, color=style.published.colour, linewidth=3.2, alpha=0.35)
        panel.vlines(np.arange(24) + 0.4, paper["q1"], paper["q3"], color=style.published.colour, linewidth=0.8)
        panel.plot(
            np.arange(24) + 0.4,
            paper["median"],
            linestyle="none",
            marker=style.published.marker,
            markersize=1.9,
            color=style.published.colour,
        )
        for hour, stats in enumerate(boxes):
            values = (
                *(service, model, hour, int((rows["hour"] == hour).sum())),
                *(float(stats[key]) for key in ("whislo", "q1", "med", "q3", "whishi", "mean")),
                *(len(np.atleast_1d(stats["fliers"])), *(float(paper[key][hour]) for key in QUARTILES), error),
            )
            for name, value in zip(lists, values, strict=True):
                lists[name].append(value)
        _axes(panel, quantity, service, boxes, paper)
        looks.letter(panel, place, look.label)
    if not models:
        looks.nothing(axes[0, 0])
    axes[0, 0].set_ylabel(quantity.axis if models else "")
    _legend(figure, style, overlaid)
    name = "API" if service == "api" else service
    what = f"{quantity.title} per hour of the day, {name} service: box plots over the workdays"
    scale = " The axis is logarithmic, and linear below its first power of ten." if service == "api" else ""
    extra = (
        "Box: quartiles; line: median; whiskers: last workday within 1.5 interquartile ranges; dots: those beyond."
        + scale
        + (" Black: read off the published figure, with the reading error. " if overlaid else "")
        + (reading_error_text(inputs, "hourly_boxes", quantity.published, service, models) if overlaid else "")
    )
    sums = [f"{model} {number(where(counts, model=model)[quantity.column].sum())}" for model in models]
    total = "; ".join(sums) or "no"
    unit = "requests" if quantity is REQUESTS else "tokens"
    text = caption(
        what,
        inputs.facts,
        ("trace",),
        f"{name} log, workdays, hours with at least one request",
        f"{workdays} workdays, the hours of a box in the CSV; {total} {unit}",
        extra,
    )
    return Drawn(figure, text, lists)


def _paper(published: Columns | None, quantity: Quantity, service: str, model: str) -> dict[str, np.ndarray]:
    """Return the published quartiles by hour; NaN where there is none."""
    result = {key: np.full(24, np.nan) for key in QUARTILES}
    if published is not None:
        rows = where(published, quantity=quantity.published, service=PUBLISHED_SERVICES[service], model=model)
        for key in QUARTILES:
            result[key][rows["hour"]] = rows[key]
    return result


def _axes(panel, quantity, service, boxes, paper) -> None:  # type: ignore[no-untyped-def]
    """Set scale, ticks and limits of one panel."""
    panel.set_xlim(-0.7, 23.9)
    panel.set_xticks(range(0, 24, 3))
    panel.set_xticks(range(24), minor=True)
    panel.set_xlabel("hour of the day")
    panel.grid(axis="x", visible=False)
    if service == "api":
        panel.set_yscale("symlog", linthresh=quantity.linear_to, linscale=0.6)
        # An hour without a request has no box; a panel without any still shows what is published.
        ends = np.concatenate([paper["q3"], *([stats["whishi"], *stats["fliers"]] for stats in boxes)])
        top = max(quantity.linear_to, np.nanmax(ends, initial=0))
        powers = 10.0 ** np.arange(np.log10(quantity.linear_to), np.ceil(np.log10(top)) + 1)
        panel.set_yticks([0, *powers])
        panel.set_yticks([], minor=True)
        panel.set_ylim(-0.02 * quantity.linear_to, top * 1.6)
    else:
        panel.set_ylim(bottom=0)
    panel.yaxis.set_major_formatter(looks.thousands)


def _legend(figure, style, overlaid) -> None:  # type: ignore[no-untyped-def]
    grey = style.get("neutral")
    handles: list = [
        Patch(facecolor=grey, alpha=0.45, edgecolor=grey, label="quartiles"),
        Line2D([], [], color="#000000", linewidth=1.0, label="median"),
        Line2D([], [], color=grey, marker="|", markersize=3, linewidth=0.7, label="1.5 IQR"),
        Line2D([], [], linestyle="none", color=grey, marker=".", markersize=3, label="days beyond"),
    ]
    if overlaid:
        paper = style.published
        label = "published"
        handles += [
            Line2D([], [], color=paper.colour, marker=paper.marker, markersize=2.4, linewidth=0.8, label=label),
            Line2D([], [], color=paper.colour, alpha=0.35, linewidth=3.2, label="reading error"),
        ]
    looks.legend(figure, handles)


def _figure(place: int) -> tuple[Artifact, Callable[[Inputs, Style], Drawn]]:
    quantity, service = PANELS[place]

    def draw(inputs: Inputs, style: Style) -> Drawn:
        return draw_hours(inputs, style, quantity, service)

    artifact = Artifact(
        f"fig{place:02d}",
        f"{quantity.title} per hour of the day, {'API' if service == 'api' else service} service",
        {"hourly_counts": HOURLY_COUNTS},
        {"published_hourly_boxes": PUBLISHED_HOURLY_BOXES, "published_reading_errors": PUBLISHED_READING_ERRORS},
        ("trace",),
    )
    return artifact, draw


FIGURES = tuple(_figure(place) for place in PANELS)
