"""Figs. 1 and 2: requests per day as calendar heat maps, ISO week × weekday, one panel per model.

Every week of the trace is shown; the weeks that the paper published are framed, and each of their cells also holds the
relative difference from the published number.
"""

import datetime

import numpy as np
from matplotlib.patches import Rectangle

from burstbench.contracts import DAILY_COUNTS, MODELS
from burstbench.figures import style as looks
from burstbench.figures.inputs import (
    PUBLISHED_DAILY_REQUESTS,
    PUBLISHED_READING_ERRORS,
    PUBLISHED_SERVICES,
    Artifact,
    Inputs,
    caption,
    distinct,
    number,
    reading_error_text,
    where,
)
from burstbench.figures.style import Drawn, Style

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
CELL_IN, NUMBERS_IN, DIFFERENCES_IN = 0.27, 0.13, 0.23  # cell height; the least height for numbers, for differences
SHORTEST_IN = 1.3  # the label of a colour bar needs as much
TALLEST_IN = 8.5


def _artifact(number: int, service: str) -> Artifact:
    return Artifact(
        f"fig{number:02d}",
        f"Requests per day of the {'API' if service == 'api' else service} service",
        {"daily_counts": DAILY_COUNTS},
        {"published_daily_requests": PUBLISHED_DAILY_REQUESTS, "published_reading_errors": PUBLISHED_READING_ERRORS},
        ("trace",),
    )


def _published(inputs: Inputs, service: str, model: str) -> dict[str, tuple[float, bool]]:
    """Return published requests and whether they are a lower limit, by date; blank cells are left out."""
    if not inputs.has("published_daily_requests"):
        return {}
    rows = where(inputs.read("published_daily_requests"), service=PUBLISHED_SERVICES[service], model=model)
    return {
        date: (float(requests), clipped == 1)
        for date, requests, clipped in zip(rows["date"], rows["requests"], rows["clipped"], strict=True)
        if not np.isnan(requests)
    }


def difference_text(found: float, published: float, clipped: bool) -> str:
    """Return the second line of a cell: "+3 %", or "≥" where only a lower limit was published and it is kept."""
    if clipped and found >= published:
        return "≥"
    if published == 0:
        return "0" if found == 0 else "new"
    percent = round(100 * (found / published - 1))
    text = "±0 %" if percent == 0 else f"{percent:+d} %".replace("-", "−")
    return text if abs(percent) < 1000 else f"×{found / published:.0f}"


def cell_text(value: float) -> str:
    """Return a count of at most five characters: 987, 4,321, 54.3k, 120k."""
    if value < 10_000:
        return f"{value:,.0f}"
    return f"{value / 1e3:.1f}k" if value < 99_950 else f"{value / 1e3:.0f}k"


def draw_calendar(inputs: Inputs, style: Style, service: str) -> Drawn:
    """Draw one service's calendar."""
    counts = where(inputs.read("daily_counts"), service=service)
    models = distinct(counts["model"][counts["requests"] > 0], MODELS)
    weeks = sorted({datetime.date.fromisoformat(date).isocalendar()[:2] for date in counts["date"]})
    height_in = float(np.clip(CELL_IN * len(weeks) + 0.75, SHORTEST_IN, TALLEST_IN))
    cell_in = (height_in - 0.75) / max(len(weeks), 1)
    figure, axes = looks.canvas(style, "double", height_in, 1, max(len(models), 1), sharey=True)
    names = ("date", "iso_week", "weekday", "service", "model", "requests", "published", "published_is_lower_limit")
    lists: dict[str, list] = {name: [] for name in names}
    frames = 0
    for place, model in enumerate(models):
        panel = axes[0, place]
        rows = where(counts, model=model)
        published = _published(inputs, service, model)
        grid = np.full((len(weeks), 7), np.nan)
        second: dict[tuple[int, int], str] = {}
        for date, requests in zip(rows["date"], rows["requests"], strict=True):
            year, week, weekday = datetime.date.fromisoformat(date).isocalendar()
            row, column = weeks.index((year, week)), weekday - 1
            grid[row, column] = requests
            paper, clipped = published.get(date, (np.nan, False))
            if date in published:
                second[row, column] = difference_text(requests, paper, clipped)
            for name, value in zip(
                lists, (date, week, weekday, service, model, int(requests), paper, clipped), strict=True
            ):
                lists[name].append(value)
        # A mesh, not an image: cells and bar stay vectors in PDF and SVG.
        image = panel.pcolormesh(
            np.arange(8) - 0.5,
            np.arange(len(weeks) + 1) - 0.5,
            np.ma.masked_invalid(grid),
            cmap=style.model(model, models).colormap,
            vmin=0,
            vmax=max(np.nanmax(grid), 1),
            edgecolor="face",
            linewidth=0.3,
        )
        panel.set_ylim(len(weeks) - 0.5, -0.5)
        _cells(panel, grid, second, image, cell_in)
        frames += _frame(panel, second)
        panel.set_xticks(range(7), WEEKDAYS)
        panel.set_yticks(range(len(weeks)), [str(week) for _, week in weeks])
        panel.tick_params(length=0)
        panel.grid(False)
        panel.spines[:].set_visible(False)
        looks.letter(panel, place, style.model(model, models).label)
        bar = figure.colorbar(image, ax=panel, fraction=0.04, pad=0.015, aspect=30)
        bar.outline.set_visible(False)
        if bar.solids is not None:
            bar.solids.set(rasterized=False, edgecolor="face")
        bar.ax.yaxis.set_major_formatter(looks.thousands)
        bar.set_label("requests per day")
    if not models:
        looks.nothing(axes[0, 0])
    axes[0, 0].set_ylabel("ISO week" if models else "")
    what = (
        f"Requests per day of the {'API' if service == 'api' else service} service, by ISO week and weekday. "
        "Blank cells lie outside the trace; each panel has its own colour scale"
    )
    extra = ""
    if frames:
        looks.note(figure, "Frame: published weeks. Second line of a cell: difference from the published number.")
        extra = (
            "Frame: the weeks the paper shows; the second line of their cells is the relative difference from the "
            "published number (read off its picture), ≥ where only a lower limit could be read and it is kept. "
            + reading_error_text(inputs, "daily_requests", "requests", service, models)
        )
    totals = "; ".join(f"{model} {number(where(counts, model=model)['requests'].sum())} requests" for model in models)
    text = caption(
        what,
        inputs.facts,
        ("trace",),
        f"{'API' if service == 'api' else service} log, all requests, failed ones included",
        totals,
        extra,
    )
    return Drawn(figure, text, lists)


def ink(background: tuple[float, float, float]) -> str:
    """Return white or near-black, whichever contrasts more with a background (relative luminance of WCAG 2)."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in background]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#FFFFFF" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.056 else "#111111"


def _cells(panel, grid, second, image, cell_in) -> None:  # type: ignore[no-untyped-def]
    """Write the numbers into the cells, dark on light and light on dark."""
    if cell_in < NUMBERS_IN:
        return
    both = cell_in >= DIFFERENCES_IN
    for (row, column), value in np.ndenumerate(grid):
        if np.isnan(value):
            continue
        colour = ink(image.cmap(image.norm(value))[:3])
        shown = both and (row, column) in second
        panel.text(
            column, row - (0.2 if shown else 0), cell_text(value), ha="center", va="center", fontsize=6, color=colour
        )
        if shown:
            panel.text(
                column,
                row + 0.24,
                second[row, column],
                ha="center",
                va="center",
                fontsize=5.5,
                color=colour,
                gid="small",
            )


def _frame(panel, second) -> int:  # type: ignore[no-untyped-def]
    """Frame the rows that hold published numbers; return 1 where there are any."""
    if not second:
        return 0
    rows = [row for row, _ in second]
    low, high = min(rows), max(rows)
    panel.add_patch(
        Rectangle(
            (-0.5, low - 0.5),
            7,
            high - low + 1,
            fill=False,
            edgecolor="#000000",
            linewidth=0.9,
            clip_on=False,
            zorder=5,
        )
    )
    return 1


def fig01(inputs: Inputs, style: Style) -> Drawn:
    """Draw Fig. 1: conversation."""
    return draw_calendar(inputs, style, "conversation")


def fig02(inputs: Inputs, style: Style) -> Drawn:
    """Draw Fig. 2: API."""
    return draw_calendar(inputs, style, "api")


FIGURES = ((_artifact(1, "conversation"), fig01), (_artifact(2, "api"), fig02))
