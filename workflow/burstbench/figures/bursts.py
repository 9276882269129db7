"""Figs. 5 and 6: how often the load doubles, and the Gamma parameters by time of day."""

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MultipleLocator

from burstbench.contracts import BURST_RATIOS, DOUBLINGS, GAMMA_PROFILE
from burstbench.figures import style as looks
from burstbench.figures.inputs import Artifact, Columns, Inputs, caption, distinct, gamma_cell, in_order, size, where
from burstbench.figures.style import Drawn, Look, Style

FIG05 = Artifact(
    "fig05",
    "How often the number of requests multiplies from one window to the next",
    {"burst_ratios": BURST_RATIOS, "doublings": DOUBLINGS},
    {},
    ("trace",),
)
FIG06 = Artifact(
    "fig06",
    "Gamma parameters of the gaps between requests by time of day",
    {"gamma_profile": GAMMA_PROFILE},
    {},
    ("trace",),
)
SERVICES = ("conversation", "api", "all")
FIRM = 5  # times of day with fewer fitted workdays are drawn as open marks, without quartiles
PARAMETERS = (  # column stem, unit suffix, panel title, axis label
    ("alpha", "", "shape α", "α"),
    ("beta_scale", "_s", "β as scale of the gaps", "β (s)"),
    ("beta_rate", "_per_s", "β as rate, 1 / scale", "β (1/s)"),
)


def drawn_definition(doublings: Columns, width_s: int, per_day: float) -> Columns | None:
    """Return the row of `doublings` whose number the bars of one width sum to, or None.

    The bars are drawn under the configured definition; `doublings` holds every definition. Rows that share the number
    (to 1e-9) but not the definition are told apart by the paper's own reading first: one with a published value.
    """
    rows = where(doublings, width_s=width_s, day_type="workday")
    same = np.flatnonzero(np.abs(rows["per_day"] - per_day) <= 1e-9 * max(per_day, 1))
    if not len(same):
        return None
    best = same[np.argsort(np.isnan(rows["published"][same]), kind="stable")][0]
    return {name: values[[best]] for name, values in rows.items()}


def fig05(inputs: Inputs, style: Style) -> Drawn:
    """Draw Fig. 5: bars by ratio for each width; mean numbers under every definition, and the paper's."""
    ratios = inputs.read("burst_ratios")
    doublings = inputs.read("doublings")
    widths = sorted({int(width) for width in ratios["width_s"]})
    figure, axes = looks.canvas(style, "double", 2.3, 1, 2, width_ratios=(1.55, 1))
    bars, means = axes[0]
    lists: dict[str, list] = {
        name: []
        for name in (
            *("panel", "width_s", "ratio", "open", "alignment", "zero_rule", "service", "model"),
            *("per_day", "low", "high", "published"),
        )
    }

    def note(*values: object) -> None:
        for name, value in zip(lists, values, strict=True):
            lists[name].append(value)

    handles: list = []
    names: list[str] = []
    nan = float("nan")
    upright = figure.get_size_inches()[0] < style.width_in("double")  # narrow bars, whose labels would touch
    for place, width in enumerate(widths):
        look = _width_look(style, place)
        rows = in_order(where(ratios, width_s=width), "ratio")
        share = 0.8 / len(widths)
        x = rows["ratio"] + (place - (len(widths) - 1) / 2) * share
        drawn = bars.bar(
            x,
            rows["per_day"],
            share * 0.94,
            color=look["colour"],
            edgecolor="#FFFFFF",
            hatch=look["hatch"],
            linewidth=0.4,
        )
        texts = [f"{value:.1f}" for value in rows["per_day"]]
        bars.bar_label(drawn, texts, fontsize=5.5, padding=1.5, rotation=90 if upright else 0)
        handles.append(
            Patch(
                facecolor=look["colour"], edgecolor="#FFFFFF", hatch=look["hatch"], label=f"{_minutes(width)} windows"
            )
        )
        for ratio, is_open, per_day in zip(rows["ratio"], rows["open"], rows["per_day"], strict=True):
            note("ratios", width, int(ratio), bool(is_open), "", "", "", "", float(per_day), nan, nan, nan)
        names.append(_draw_definitions(means, place, width, float(rows["per_day"].sum()), doublings, style, note))
    last = in_order(where(ratios, width_s=widths[0]), "ratio")
    bars.set_xticks(
        last["ratio"],
        [f"{'≥ ' if is_open else ''}{ratio}×" for ratio, is_open in zip(last["ratio"], last["open"], strict=True)],
    )
    bars.set_xlabel("requests in a window ÷ requests in the window before")
    bars.set_ylabel("times per workday")
    bars.grid(axis="x", visible=False)
    bars.margins(y=0.16 if upright else 0.1)
    looks.letter(bars, 0, "by ratio")
    means.set_xticks(range(len(widths)), [_minutes(width) for width in widths])
    means.set_xlim(-0.6, len(widths) - 0.4)
    means.set_ylim(bottom=0)
    means.set_ylabel("doublings per workday")
    means.grid(axis="x", visible=False)
    looks.letter(means, 1, "all ratios ≥ 2, by definition")
    handles += [
        Line2D([], [], color="#000000", marker="_", markersize=9, linestyle="none", label="as drawn in (a)"),
        *(
            Line2D(
                [],
                [],
                linestyle="none",
                marker=style.service(name).marker,
                markersize=3,
                markerfacecolor="none",
                markeredgecolor=style.get("neutral"),
                label=style.service(name).label,
            )
            for name in distinct(doublings["service"], SERVICES)
        ),
    ]
    if not np.isnan(lists["published"]).all():
        paper = style.published
        handles.append(Line2D([], [], linestyle="none", marker=paper.marker, color=paper.colour, label="paper"))
    looks.legend(figure, handles)
    text = caption(
        "How often the number of requests at least doubles from one window to the next on workdays: by ratio (a), and "
        "the mean number of doublings a workday (b) under every definition tried",
        inputs.facts,
        ("trace",),
        f"workdays; definition of (a): {'; '.join(names)}",
        f"{_days(doublings)} workdays",
        "Bar of (b): definition of (a) with its 95 % bootstrap interval over days; open marks: other definitions "
        "(windows aligned or sliding, empty windows skipped or counted, service, model).",
    )
    return Drawn(figure, text, lists)


def _draw_definitions(panel, place, width, total, doublings, style, note) -> str:  # type: ignore[no-untyped-def]
    """Draw one width's definitions; return the name of the one that the bars follow."""
    rows = where(doublings, width_s=width, day_type="workday")
    offsets = 0.26 + looks.spread(size(rows), 0.3)
    for service in distinct(rows["service"], SERVICES):
        of = rows["service"] == service
        panel.plot(
            place + offsets[of],
            rows["per_day"][of],
            linestyle="none",
            marker=style.service(service).marker,
            markersize=3,
            markerfacecolor="none",
            markeredgecolor=style.get("neutral"),
            markeredgewidth=0.6,
        )
    for index in range(size(rows)):
        note(
            "definitions",
            width,
            -1,
            True,
            *(rows[name][index] for name in ("alignment", "zero_rule", "service", "model")),
            *(float(rows[name][index]) for name in ("per_day", "low", "high", "published")),
        )
    found = drawn_definition(doublings, width, total)
    low, high = (float(found["low"][0]), float(found["high"][0])) if found else (total, total)
    panel.errorbar(
        [place - 0.08],
        [total],
        yerr=[[max(total - low, 0)], [max(high - total, 0)]],
        color=_width_look(style, place)["colour"],
        marker="_",
        markersize=12,
        markeredgewidth=2.2,
        capsize=2,
        linewidth=1.0,
        zorder=4,
    )
    panel.annotate(
        f"{total:.0f}",
        (place - 0.08, high),
        xytext=(0, 2.5),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=6.5,
        fontweight="bold",
    )
    published = rows["published"][~np.isnan(rows["published"])]
    if len(published):
        panel.plot(
            [place - 0.36],
            published[:1],
            linestyle="none",
            marker=style.published.marker,
            markersize=4,
            color=style.published.colour,
            zorder=5,
        )
        panel.annotate(
            f"{published[0]:.0f}",
            (place - 0.36, published[0]),
            xytext=(-4, 0),
            textcoords="offset points",
            va="center",
            ha="right",
            fontsize=6.5,
        )
    if found is None:
        return f"{_minutes(width)}: as configured"
    service, model, alignment, zero = (found[name][0] for name in ("service", "model", "alignment", "zero_rule"))
    return f"{_minutes(width)}: {alignment} windows, empty ones {'skipped' if zero == 'skip' else 'counted'}, " + (
        f"{'all services' if service == 'all' else service}, {'all models' if model == 'all' else model}"
    )


def _minutes(width_s: int) -> str:
    return f"{width_s // 60} min" if width_s % 60 == 0 else f"{width_s} s"


def _days(doublings: Columns) -> str:
    found = sorted({int(days) for days in where(doublings, day_type="workday")["days"]})
    return "–".join(map(str, (found[0], found[-1])[: len(found)])) if found else "0"


def _width_look(style: Style, place: int) -> dict[str, str]:
    rows = style.get("widths")
    return rows[place % len(rows)]


def fig06(inputs: Inputs, style: Style) -> Drawn:
    """Draw Fig. 6: α, β as scale and β as rate over the day, median and quartiles over the workdays."""
    profile = inputs.read("gamma_profile")
    service, model = gamma_cell(profile)
    rows = in_order(where(profile, service=service, model=model), "window_s")
    fitted = ~np.isnan(rows["alpha"])
    rows = {name: values[fitted] for name, values in rows.items()}
    look: Look = style.model(model)
    name = "API" if service == "api" else service
    figure, axes = looks.canvas(style, "double", 2.0, 1, 3)
    firm = rows["windows"] >= FIRM
    hours = (rows["window_s"] + rows["width_s"] / 2) / 3600
    lists: dict[str, list] = {
        name: [] for name in ("service", "model", "window_s", "width_s", "windows", "parameter", "median", "q1", "q3")
    }
    for place, (stem, unit, title, axis) in enumerate(PARAMETERS):
        panel = axes[0, place]
        median = rows[f"{stem}{unit}"]
        q1, q3 = rows[f"{stem}_q1{unit}"], rows[f"{stem}_q3{unit}"]
        x, low = _broken(hours[firm], q1[firm], rows["width_s"][firm])
        _, high = _broken(hours[firm], q3[firm], rows["width_s"][firm])
        _, middle = _broken(hours[firm], median[firm], rows["width_s"][firm])
        panel.plot(
            hours[~firm],
            median[~firm],
            linestyle="none",
            marker=look.marker,
            markersize=2.4,
            markerfacecolor="#FFFFFF",
            markeredgecolor=look.colour,
            markeredgewidth=0.7,
        )
        panel.fill_between(x, low, high, color=look.colour, alpha=0.22, linewidth=0)
        panel.plot(x, middle, color=look.colour, marker=look.marker, markersize=1.8, linewidth=0.9)
        if not len(q1):
            panel.text(
                0.5, 0.5, "no window has\nenough gaps for a fit", transform=panel.transAxes, ha="center", va="center"
            )
            panel.set_xticks([])
            panel.set_yticks([])
        elif stem != "alpha":
            looks.log_axis(panel, float(q1.min()), float(q3.max()))
        else:
            panel.set_ylim(0, max(float(np.nanmax(q3)) * 1.08, 1.15))
            panel.axhline(1, color="#000000", linewidth=0.6, linestyle=":")
            panel.annotate(
                "Poisson (α = 1)",
                (1, 1),
                xycoords=("axes fraction", "data"),
                xytext=(0, 1),
                textcoords="offset points",
                ha="right",
                va="bottom",
                fontsize=5.5,
            )
        panel.set_xlabel("time of day (h)")
        panel.set_ylabel(axis)
        if len(hours):
            panel.set_xlim(np.floor(hours.min()), np.ceil(hours.max()))
            panel.xaxis.set_major_locator(MultipleLocator(2 if np.ptp(hours) < 16 else 4))
        looks.letter(panel, place, title)
        for index in range(size(rows)):
            values = (
                service,
                model,
                float(rows["window_s"][index]),
                float(rows["width_s"][index]),
                int(rows["windows"][index]),
                f"{stem}{unit}",
                float(median[index]),
                float(q1[index]),
                float(q3[index]),
            )
            for column, value in zip(lists, values, strict=True):
                lists[column].append(value)
    looks.legend(
        figure,
        [
            Line2D(
                [],
                [],
                color=look.colour,
                marker=look.marker,
                markersize=2,
                label=f"{look.label} {name}, median",
            ),
            Patch(facecolor=look.colour, alpha=0.22, label="quartiles over workdays"),
        ],
    )
    of = f" of {float(rows['width_s'][0]) / 60:g} minutes" if size(rows) else ""
    text = caption(
        f"Shape α and scale β of Gamma fits to the gaps between {model} {name} requests in windows"
        f"{of}: median and quartiles over the workdays, by time of day. The mean gap is α × scale; the "
        "paper draws β without saying which of the two readings it is",
        inputs.facts,
        ("trace",),
        f"{name} log, {model}, workdays, windows with enough gaps for a fit",
        f"{int(rows['windows'].sum()):,} fitted windows",
        f"Open marks: fewer than {FIRM} workdays." if (~firm).any() else "",
    )
    return Drawn(figure, text, lists)


def _broken(x: np.ndarray, y: np.ndarray, width_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Insert NaN where windows are missing, so that no line bridges them."""
    if len(x) < 2:
        return x, y
    gaps = np.flatnonzero(np.diff(x) > 1.5 * width_s[:-1] / 3600) + 1
    return np.insert(x, gaps, np.nan), np.insert(y, gaps, np.nan)


FIGURES = ((FIG05, fig05), (FIG06, fig06))
