"""Fig. S1: every published number against the trace's, with the error; real or twin."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullFormatter

from burstbench.contracts import TRACE_CHECK
from burstbench.figures import style as looks
from burstbench.figures.inputs import Artifact, Columns, Inputs, caption, number, size
from burstbench.figures.style import Drawn, Style

BEYOND = 0.5  # errors that are larger are drawn at the edge
ARTIFACT = Artifact(
    "figS01", "The trace beside every published number of BurstGPT", {"trace_check": TRACE_CHECK}, {}, ("trace",)
)


@dataclass(frozen=True)
class Panel:
    """One group of numbers.

    Attributes:
        title: of the panel.
        axis: of the published values.
        within: the error that is aimed at, relative; 0 for none.
        holds: whether it shows a (table, item).
        strong: whether an item is drawn in full; the others are pale.
    """

    title: str
    axis: str
    within: float
    holds: Callable[[str, str], bool]
    strong: Callable[[str], bool] = lambda item: True


def _hourly(title: str, quantity: str, axis: str) -> Panel:
    return Panel(
        title,
        axis,
        0.1,
        lambda table, item: table == "hourly_boxes" and item.startswith(quantity),
        lambda item: item.endswith(" median"),
    )


PANELS = (
    Panel("daily totals", "requests per day", 0.02, lambda table, _: table == "daily_requests"),
    _hourly("hourly requests", "hourly_request_count", "requests per hour"),
    _hourly("hourly request tokens", "hourly_request_tokens", "request tokens per hour"),
    _hourly("hourly response tokens", "hourly_response_tokens", "response tokens per hour"),
    Panel(
        "responses by request length",
        "response tokens",
        0.0,
        lambda table, _: table == "response_by_request_tokens",
        lambda item: " response_median " in item,
    ),
    Panel("totals, gaps, token moments", "value", 0.05, lambda table, _: table == "moments"),
)


def _named(item: str, names: tuple[str, ...]) -> str:
    return next((name for name in names if name in item), "")


def draw_published(inputs: Inputs, style: Style) -> Drawn:
    """Draw the error of each number over the number, a panel a group."""
    found = inputs.read("trace_check")
    figure, axes = looks.canvas(style, "double", 3.9, 2, 3)
    lists: dict[str, list] = {
        name: [] for name in ("panel", "item", "unit", "published", "found", "error", "reading_error", "lower_limit")
    }
    for place, panel in enumerate(PANELS):
        rows = _rows(found, panel)
        lists["panel"] += [panel.title] * size(rows)
        for name, values in zip(list(lists)[1:], rows.values(), strict=True):
            lists[name] += values.tolist()
        _draw(axes.flat[place], style, panel, rows)
        looks.letter(axes.flat[place], place, panel.title)
        if place % 3 == 0:
            axes.flat[place].set_ylabel("error")
    shown = style.model("ChatGPT"), style.model("GPT-4")
    grey = style.get("neutral")
    handles: list = [
        *(Line2D([], [], linestyle="none", marker="o", markersize=3, color=look.colour, label=look.label)
          for look in shown),
        Line2D([], [], linestyle="none", marker="o", markersize=3, color=grey, label="conversation"),
        Line2D([], [], linestyle="none", marker="o", markersize=3, color=grey, markerfacecolor="none", label="API"),
        Line2D([], [], linestyle="none", marker="^", markersize=3, color=grey, label="error beyond ±50 %"),
        Patch(facecolor=grey, alpha=0.25, label="aimed at"),
    ]  # fmt: skip
    looks.legend(figure, handles, handlelength=1.2)
    text = caption(
        "Relative error of the trace's number, over the published number: daily totals, corners of the hourly boxes "
        "(medians in full, the others pale), responses by request length (medians in full), single numbers",
        inputs.facts,
        ("trace",),
        "published numbers above 0; daily totals that are known as lower limits only are left out",
        f"{number(len(lists['item']))} published numbers",
        "Grey: the error that is aimed at. Errors beyond 50 % are drawn at the edge. How exactly a number could be "
        "read off its picture stands in the CSV.",
    )
    return Drawn(figure, text, lists)


def _rows(found: Columns, panel: Panel) -> Columns:
    kept = np.array([panel.holds(*pair) for pair in zip(found["table"], found["item"], strict=True)], bool)
    kept &= (found["published"] > 0) & ~np.isnan(found["error"]) & ~found["clipped"]
    names = ("item", "unit", "published", "found", "error", "reading_error", "clipped")
    rows = {name: found[name][kept] for name in names}
    rows["error"] = rows["found"] / rows["published"] - 1
    return rows


def _draw(axes, style: Style, panel: Panel, rows: Columns) -> None:  # type: ignore[no-untyped-def]
    strong = np.array([panel.strong(item) for item in rows["item"]], bool)
    models = np.array([_named(item, ("ChatGPT", "GPT-4")) for item in rows["item"]], object)
    api = np.array([_named(item, ("api",)) == "api" for item in rows["item"]], bool)
    shown = np.clip(rows["error"], -BEYOND, BEYOND)
    inside = np.abs(rows["error"]) <= BEYOND
    if panel.within:
        axes.axhspan(-panel.within, panel.within, color=style.get("neutral"), alpha=0.25, linewidth=0)
    for model in ("ChatGPT", "GPT-4", ""):
        colour = style.model(model).colour if model else "#444444"
        for is_api in (False, True):
            for is_strong in (False, True):
                members = (models == model) & (api == is_api) & (strong == is_strong)
                for where_, marker in ((members & inside, "o"), (members & ~inside, "^")):
                    axes.plot(
                        rows["published"][where_],
                        shown[where_],
                        linestyle="none",
                        marker=marker,
                        markersize=2.6 if is_strong else 1.8,
                        markeredgewidth=0.5,
                        color=colour,
                        markerfacecolor="none" if is_api else colour,
                        alpha=0.9 if is_strong else 0.25,
                        rasterized=True,
                        zorder=3 if is_strong else 2,
                    )
    if not size(rows):
        looks.nothing(axes, "nothing to compare")
        return
    axes.set_xscale("log")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(-BEYOND * 1.08, BEYOND * 1.08)
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{100 * value:+.0f} %".replace("-", "−").replace("+0 %", "0 %"))
    )
    axes.set_xlabel(panel.axis)


FIGURES = ((ARTIFACT, draw_published),)
