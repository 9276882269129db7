"""Figs. 7, 8 and 9: lengths of requests and responses, and how the one depends on the other."""

import json
from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from burstbench.contracts import LENGTH_COUNTS, LENGTH_FITS, RESPONSE_BINS, RESPONSE_BY_REQUEST
from burstbench.figures import style as looks
from burstbench.figures.inputs import (
    PUBLISHED_READING_ERRORS,
    PUBLISHED_RESPONSE_BY_REQUEST,
    PUBLISHED_SERVICES,
    Artifact,
    Columns,
    InputError,
    Inputs,
    caption,
    distinct,
    in_order,
    number,
    reading_error,
    reading_error_text,
    replies_text,
    size,
    where,
)
from burstbench.figures.style import Drawn, Look, Style

ORIGINS = ("trace", "engine")
FIG07 = Artifact(
    "fig07",
    "Histograms of request and response tokens",
    {
        "length_counts": LENGTH_COUNTS,
        "responses_length_counts": LENGTH_COUNTS,
        "length_fits": LENGTH_FITS,
        "responses_length_fits": LENGTH_FITS,
    },
    {},
    ORIGINS,
)
FIG08 = Artifact(
    "fig08",
    "Response tokens against request tokens",
    {"response_by_request": RESPONSE_BY_REQUEST, "responses_response_by_request": RESPONSE_BY_REQUEST},
    {
        "published_response_by_request": PUBLISHED_RESPONSE_BY_REQUEST,
        "published_reading_errors": PUBLISHED_READING_ERRORS,
    },
    ORIGINS,
)
FIG09 = Artifact(
    "fig09",
    "Response tokens within bins of request tokens",
    {"response_bins": RESPONSE_BINS, "responses_response_bins": RESPONSE_BINS},
    {},
    ORIGINS,
)
TRACE_SOURCES = ("trace conversation ChatGPT", "trace conversation GPT-4")
SHOWN = 0.98  # share of the responses of every source that Fig. 9 shows
BINS = 40  # of the drawn histograms, equally wide on a logarithmic axis
REQUESTS_TO = 2040.0  # right end of Fig. 8, where the published figure ends
THIN = 100  # published points are drawn at every 100 request tokens
LEAST = 10  # bins of Fig. 8 with fewer requests are not drawn: their 5-95 % band says nothing
FAMILIES = {
    "lognormal": "log-normal",
    "exponential": "exponential",
    "powerlaw_cutoff": "power law with cut-off",
    "zipf": "Zipf",
}


def trace_sources(rows: Columns) -> list[str]:
    """Return whose requests of the trace are drawn: the paper's conversations; of another trace two, those first."""
    found = [source for source in distinct(rows["source"], TRACE_SOURCES) if source.startswith("trace ")]
    found.sort(key=lambda source: not source.startswith("trace conversation "))
    return [source for source in found if source in TRACE_SOURCES] or found[:2]


def log_text(sources: Iterable[str]) -> str:
    """Return of which logs the sources of the trace are: "conversation log"."""
    services = {source.split(" ")[1] for source in sources if source.startswith("trace ")}
    return " and ".join(f"{'API' if service == 'api' else service} log" for service in sorted(services))


def source_name(style: Style, source: str, sources: Iterable[str]) -> tuple[str, Look]:
    """Return the title and look of a source among others: 'trace <service> <model>' or 'run <model> <gpu>'."""
    kind, first, second = source.split(" ", 2)
    if kind == "trace":
        look = style.model(second, [name.split(" ", 2)[2] for name in sources if name.startswith("trace ")])
        return f"{look.label} {style.service(first).label}", look
    look = style.model(first)
    return f"{look.label} on {style.gpu(second).label}", look


def run_sources(columns: Columns, name: str) -> list[str]:
    """Return the sources of the runs' table; at least one."""
    sources = distinct(columns["source"])
    if not sources:
        raise InputError(f"table {name!r}: no rows, expected the lengths of at least one run")
    return sources


def log_probability(family: str, parameters: dict[str, float], n_max: int) -> np.ndarray:
    """Return the fitted probability of each length 1 … n_max.

    The families are those of `burstbench.stats.lengths`, normalised on the support.
    """
    n = np.arange(1, n_max + 1, dtype=float)
    theta, rate = parameters.get("theta", 0.0), parameters.get("rate", 0.0)
    if family == "lognormal":
        exponent = -((np.log(n) - parameters["mu"]) ** 2) / (2 * parameters["sigma"] ** 2) - np.log(n)
    else:
        exponent = -theta * np.log(n) - rate * n
    p = np.exp(exponent - exponent.max())
    return p / p.sum()


def log_edges(longest: int, bins: int) -> np.ndarray:
    """Return whole-number edges 1 … longest + 1, about equally far apart on a logarithmic axis."""
    return np.unique(np.round(np.geomspace(1, longest + 1, bins + 1)).astype(np.int64))


def density(tokens: np.ndarray, requests: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the share of requests per unit of log10(tokens) in each bin: area on the log axis is share of requests."""
    share = np.histogram(tokens, bins=edges - 0.5, weights=requests)[0] / requests.sum()
    return share / np.diff(np.log10(edges - 0.5))


def fig07(inputs: Inputs, style: Style) -> Drawn:
    """Draw Fig. 7: a row per source (ChatGPT conversation, the run), request and response side by side, with fits."""
    counts = {"trace": inputs.read("length_counts"), "run": inputs.read("responses_length_counts")}
    fits = {"trace": inputs.read("length_fits"), "run": inputs.read("responses_length_fits")}
    sources = [("trace", name) for name in trace_sources(counts["trace"])[:1]] + [
        ("run", name) for name in run_sources(counts["run"], "responses_length_counts")
    ]
    figure, axes = looks.canvas(style, "double", 0.55 + 1.5 * len(sources), len(sources), 2, sharex="col")
    lists: dict[str, list] = {
        name: [] for name in ("source", "quantity", "curve", "tokens_low", "tokens_high", "requests", "density")
    }
    sizes, place = [], 0
    for row, (kind, source) in enumerate(sources):
        title, look = source_name(style, source, counts["trace"]["source"])
        for column, quantity in enumerate(("request", "response")):
            panel = axes[row, column]
            rows = where(counts[kind], source=source, quantity=quantity)
            some = rows["tokens"] >= 1
            tokens, requests = rows["tokens"][some], rows["requests"][some]
            looks.letter(panel, place, f"{title}: {quantity}s")
            place += 1
            if not len(tokens):
                continue
            edges = log_edges(int(tokens.max()), BINS)
            heights = density(tokens, requests, edges)
            panel.stairs(heights, edges - 0.5, fill=True, color=look.colour, alpha=0.45, linewidth=0)
            panel.stairs(heights, edges - 0.5, color=look.colour, linewidth=0.8)
            _note(lists, source, quantity, "data", edges, heights, requests.sum())
            _fits(panel, where(fits[kind], source=source, quantity=quantity), edges, style, lists, source, quantity)
            panel.set_xscale("log")
            panel.set_xlim(0.5, None)
            panel.set_ylim(0, heights.max() * 1.45)
            panel.xaxis.set_major_formatter(looks.thousands)
            panel.grid(axis="x", visible=False)
            if quantity == "request":
                sizes.append(f"{title} {number(requests.sum())}")
        axes[row, 0].set_ylabel("share of requests\nper decade")
    for column, quantity in enumerate(("request", "response")):
        axes[-1, column].set_xlabel(f"{quantity} tokens")
    handles: list = []
    names = []
    for kind, source in sources:
        title, look = source_name(style, source, counts["trace"]["source"])
        names.append(title if kind == "trace" else f"the run {title}")
        handles.append(Patch(facecolor=look.colour, alpha=0.45, edgecolor=look.colour, label=title))
    handles.append(Line2D([], [], color=style.get("fit", "colour"), linewidth=1.2, label="fitted Zipf"))
    handles.append(Line2D([], [], color=style.get("fit", "other"), linestyle=(0, (3, 1)), label="best family by AIC"))
    looks.legend(figure, handles)
    text = caption(
        "Histograms of request and response tokens on a logarithmic axis, where equal areas are equal shares of "
        f"requests, for {' and for '.join(names)}, with the Zipf law P(n) ∝ n^−θ and the family of lowest "
        "AIC fitted by maximum likelihood on 1 … longest",
        inputs.facts,
        ORIGINS,
        f"answered requests of at least 1 token; {log_text(source for _, source in sources)}",
        "; ".join(sizes),
        replies_text(inputs.facts),
    )
    return Drawn(figure, text, lists)


def _fits(
    panel: Axes, fits: Columns, edges: np.ndarray, style: Style, lists: dict[str, list], source: str, quantity: str
) -> None:
    """Draw the Zipf fit and the best other family over the bins, and name them in the panel."""
    if not size(fits):
        return
    best = str(fits["family"][int(np.argmin(fits["aic"]))])
    lines = []
    for family in dict.fromkeys(("zipf", best)):
        row = where(fits, family=family)
        parameters = json.loads(row["parameters"][0])
        if not parameters:  # the optimum is the Zipf law itself
            continue
        p = log_probability(family, parameters, int(row["n_max"][0]))
        heights = density(np.arange(1, len(p) + 1), p, edges)
        middle = np.sqrt((edges[:-1] - 0.5) * (edges[1:] - 0.5))
        zipf = family == "zipf"
        panel.plot(
            middle,
            heights,
            color=style.get("fit", "colour" if zipf else "other"),
            linewidth=1.2 if zipf else 1.0,
            linestyle="-" if zipf else (0, (3, 1)),
            zorder=3,
        )
        _note(lists, source, quantity, family, edges, heights, int(row["n"][0]))
        values = {"theta": "θ", "mu": "μ", "sigma": "σ", "rate": "rate"}
        named = ", ".join(f"{values[key]} = {value:.3g}" for key, value in sorted(parameters.items()) if key != "rate")
        lines.append(f"{FAMILIES[family]}" + (f" ({named})" if named else "") + f": KS {float(row['ks'][0]):.2f}")
    panel.annotate(
        "\n".join(lines), (0.015, 0.985), xycoords="axes fraction", ha="left", va="top", fontsize=5.8, linespacing=1.25
    )


def _note(
    lists: dict[str, list], source: str, quantity: str, curve: str, edges: np.ndarray, heights: np.ndarray, n: float
) -> None:
    shares = heights * np.diff(np.log10(edges - 0.5))
    for low, high, height, share in zip(edges[:-1], edges[1:], heights, shares, strict=True):
        values = (source, quantity, curve, int(low), int(high) - 1, float(share * n), float(height))
        for name, value in zip(lists, values, strict=True):
            lists[name].append(value)


def _panels(inputs: Inputs, trace: str, run: str) -> list[tuple[str, Columns]]:
    """Return the sources of Figs. 8 and 9 with their rows: conversation by model, then the runs."""
    of_trace, of_runs = inputs.read(trace), inputs.read(run)
    found = [(source, where(of_trace, source=source)) for source in trace_sources(of_trace)]
    return found + [(source, where(of_runs, source=source)) for source in run_sources(of_runs, run)]


def fig08(inputs: Inputs, style: Style) -> Drawn:
    """Draw Fig. 8: median, mean and 5-95 % band of response tokens by request tokens, a panel per source."""
    panels = _panels(inputs, "response_by_request", "responses_response_by_request")
    sources = [source for source, _ in panels]
    published = inputs.read("published_response_by_request") if inputs.has("published_response_by_request") else None
    figure, axes = looks.canvas(style, "double", 2.3, 1, len(panels), sharey=True)
    lists: dict[str, list] = {
        name: [] for name in ("source", "curve", "request_low", "request_high", "n", "median", "mean", "p05", "p95")
    }
    overlaid, sizes = False, []
    for place, (source, all_rows) in enumerate(panels):
        panel = axes[0, place]
        title, look = source_name(style, source, sources)
        kept = (all_rows["n"] >= LEAST) & (all_rows["request_high"] <= REQUESTS_TO + 1e-9)
        rows = in_order({name: values[kept] for name, values in all_rows.items()}, "request_low")
        x = (rows["request_low"] + rows["request_high"]) / 2
        panel.fill_between(x, rows["response_p05"], rows["response_p95"], color=look.colour, alpha=0.22, linewidth=0)
        panel.plot(x, rows["response_median"], color=look.colour, linewidth=1.1)
        panel.plot(x, rows["response_mean"], color="#000000", linewidth=0.8, linestyle=(0, (3, 1)))
        for index in range(size(rows)):
            values = (
                source,
                "here",
                float(rows["request_low"][index]),
                float(rows["request_high"][index]),
                int(rows["n"][index]),
                *(float(rows[f"response_{name}"][index]) for name in ("median", "mean", "p05", "p95")),
            )
            for name, value in zip(lists, values, strict=True):
                lists[name].append(value)
        sizes.append(f"{title} {number(rows['n'].sum())}")
        if published is not None and source.startswith("trace "):
            _, service, model = source.split(" ", 2)
            rows = where(published, service=PUBLISHED_SERVICES[service], model=model)
            error = reading_error(inputs, "response_by_request_tokens", "response", service, model)
            overlaid = _overlay(panel, rows, error, source, style, lists) or overlaid
        panel.set_xlim(0, REQUESTS_TO)
        panel.xaxis.set_major_formatter(looks.thousands)
        panel.yaxis.set_major_formatter(looks.thousands)
        panel.set_xlabel("request tokens")
        looks.letter(panel, place, title)
    # Once all is drawn: the panels share their axis, and its other end would stay that of the first.
    axes[0, 0].set_ylim(bottom=0)
    axes[0, 0].set_ylabel("response tokens")
    handles: list = [
        Line2D([], [], color="#555555", linewidth=1.1, label="median"),
        Line2D([], [], color="#000000", linewidth=0.8, linestyle=(0, (3, 1)), label="mean"),
        Patch(facecolor="#555555", alpha=0.22, label="5–95 %"),
    ]
    if overlaid:
        ink = style.published.colour
        handles += [
            Line2D(
                [],
                [],
                linestyle="none",
                marker=style.published.marker,
                markersize=2.6,
                color=ink,
                label="published median",
            ),
            Line2D([], [], linestyle="none", marker="x", markersize=3, color=ink, label="mean"),
            Line2D([], [], linestyle="none", marker="_", markersize=4, color=ink, label="5, 95 %"),
        ]
    looks.legend(figure, handles)
    extra = ""
    if overlaid:
        read = reading_error_text(
            inputs, "response_by_request_tokens", "response", "conversation", ("ChatGPT", "GPT-4")
        )
        extra = f"Marks: the published figure at every 100 request tokens. {read} "
    extra += replies_text(inputs.facts)
    text = caption(
        "Response tokens against request tokens, in bins of request tokens: median, mean and 5–95 % band",
        inputs.facts,
        ORIGINS,
        f"answered requests, {log_text(source for source, _ in panels)}; bins of at least {LEAST}, up to "
        f"{REQUESTS_TO:,.0f} request tokens",
        "; ".join(sizes),
        extra,
    )
    return Drawn(figure, text, lists)


def _overlay(panel: Axes, rows: Columns, error: float, source: str, style: Style, lists: dict[str, list]) -> bool:
    """Draw the published curve of one panel as marks with their reading error; return whether there is one."""
    rows = in_order(
        {name: values[rows["request_tokens"] % THIN == 0] for name, values in rows.items()}, "request_tokens"
    )
    if not size(rows):
        return False
    ink = style.published.colour
    marks = {"median": (style.published.marker, 2.2), "mean": ("x", 2.4), "p05": ("_", 3.2), "p95": ("_", 3.2)}
    for name, (marker, width) in marks.items():
        panel.errorbar(
            rows["request_tokens"],
            rows[f"response_{name}"],
            error,
            linestyle="none",
            marker=marker,
            markersize=width,
            color=ink,
            markeredgewidth=0.7,
            elinewidth=0.7,
            zorder=4,
        )
    for index in range(size(rows)):
        at = float(rows["request_tokens"][index])
        values = (source, "published", at, at, 0, *(float(rows[f"response_{name}"][index]) for name in marks))
        for name, value in zip(lists, values, strict=True):
            lists[name].append(value)
    return True


def fig09(inputs: Inputs, style: Style) -> Drawn:
    """Draw Fig. 9: ridges of the response lengths, one per bin of request tokens, a panel per source."""
    panels = _panels(inputs, "response_bins", "responses_response_bins")
    sources = [source for source, _ in panels]
    bins = sorted(
        {(low, high) for _, rows in panels for low, high in zip(rows["request_low"], rows["request_high"], strict=True)}
    )
    figure, axes = looks.canvas(style, "double", 0.75 + 0.36 * max(len(bins), 3), 1, len(panels), sharey=True)
    lists: dict[str, list] = {
        name: []
        for name in ("source", "request_low", "request_high", "response_low", "response_high", "requests", "density")
    }
    sizes = []
    right = max(_right_end(rows) for _, rows in panels)
    for place, (source, rows) in enumerate(panels):
        panel = axes[0, place]
        title, look = source_name(style, source, sources)
        for base, (low, high) in enumerate(bins):
            ridge = in_order(where(rows, request_low=low), "response_low")
            total = ridge["n"].sum() if size(ridge) else 0
            panel.axhline(base, color="#9A9A9A", linewidth=0.4, zorder=2 * (len(bins) - base))
            panel.annotate(
                f"n = {number(total)}",
                (1, base + 0.9),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="top",
                fontsize=5.5,
                color="#333333",
                zorder=99,
            )
            if not total:
                continue
            share = ridge["n"] / total / (ridge["response_high"] - ridge["response_low"])
            seen = ridge["response_low"] < right
            edges = np.append(ridge["response_low"][seen], ridge["response_high"][seen][-1])
            height = base + 0.9 * share[seen] / share.max()
            panel.stairs(
                height,
                edges,
                baseline=base,
                fill=True,
                color=look.colour,
                alpha=0.6,
                linewidth=0,
                zorder=2 * (len(bins) - base) + 1,
            )
            panel.stairs(
                height,
                edges,
                baseline=base,
                color=look.colour,
                linewidth=0.6,
                zorder=2 * (len(bins) - base) + 1,
            )
            for index in range(size(ridge)):
                values = (
                    source,
                    float(low),
                    float(high),
                    float(ridge["response_low"][index]),
                    float(ridge["response_high"][index]),
                    int(ridge["n"][index]),
                    float(share[index]),
                )
                for name, value in zip(lists, values, strict=True):
                    lists[name].append(value)
        panel.set_xlim(0, right)
        panel.xaxis.set_major_formatter(looks.thousands)
        panel.set_xlabel("response tokens")
        panel.grid(axis="y", visible=False)
        panel.tick_params(axis="y", length=0)
        panel.spines["left"].set_visible(False)
        looks.letter(panel, place, title)
        sizes.append(f"{title} {number(rows['n'].sum())}")
    axes[0, 0].set_yticks(np.arange(len(bins)) + 0.3, [f"{low:,.0f}–{high - 1:,.0f}" for low, high in bins])
    axes[0, 0].set_ylim(-0.1, len(bins) + 0.1)
    axes[0, 0].set_ylabel("request tokens")
    text = caption(
        "Distribution of response tokens within bins of request tokens; each ridge is scaled to its own peak",
        inputs.facts,
        ORIGINS,
        f"answered requests, {log_text(source for source, _ in panels)}; the axis ends where 98 % of every source lie",
        "; ".join(sizes),
        replies_text(inputs.facts),
    )
    return Drawn(figure, text, lists)


def _right_end(rows: Columns) -> float:
    """Return where 98 % of a source's responses end, tokens."""
    order = np.argsort(rows["response_high"], kind="stable")
    reached = np.cumsum(rows["n"][order])
    if not reached.size or reached[-1] == 0:
        return 1.0
    return float(rows["response_high"][order][np.searchsorted(reached, SHOWN * reached[-1])])


FIGURES = ((FIG07, fig07), (FIG08, fig08), (FIG09, fig09))
