"""How figures look: the style file, the canvas with its strip for legend and mark, and files with reproducible bytes.

Everything goes through `matplotlib.figure.Figure`; pyplot, which keeps global state and starts slowly, is not used.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, NullFormatter
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from burstbench.errors import UserError
from burstbench.files import read_yaml, replaced

STRIP_IN = 0.22  # height of the strip above the panels that holds the legend and the mark
MARK_IN = 0.9  # what the mark takes of the strip's width
NOTE_LETTERS = 22  # letters of a note to the inch
LINE_IN = 0.13  # height of a further line of the legend, or of a note
COLUMNS = ("mixed", "single", "double")
STACKED = "stacked in "  # marks a figure whose panels beside each other were put below each other; the columns follow
MOST_STACKED = 6  # panels
PHI = 0.6180339887498949


class StyleError(UserError):
    """The style file lacks a key or holds a wrong value; the message names both."""


@dataclass(frozen=True)
class Look:
    """Colour, line, marker, hatch and label of one series."""

    label: str
    colour: str = "#000000"
    line: Any = "-"
    marker: str = "o"
    hatch: str = ""
    colormap: str = "Greys"
    filled: bool = True


@dataclass(frozen=True)
class Drawn:
    """A figure before it is saved.

    Attributes:
        figure: the picture, without its mark.
        caption: what it shows, source, window, filter, n.
        numbers: the plotted numbers as columns of equal length: one tidy table.
    """

    figure: Figure
    caption: str
    numbers: dict[str, Any]


@dataclass(frozen=True)
class Style:
    """The style file.

    Attributes:
        values: the whole mapping.
        source: its path, for messages.
    """

    values: dict[str, Any]
    source: str

    @classmethod
    def read(cls, path: Path) -> "Style":
        """Read `figures.yaml`.

        Raises:
            UserError: the file is missing, not YAML or not a mapping.
        """
        values = read_yaml(path)
        if not isinstance(values, dict):
            raise StyleError(f"{path}: found {type(values).__name__}, expected a mapping")
        return cls(values, str(path))

    def get(self, *keys: str) -> Any:
        """Return the value at a path of keys, or say which key is missing."""
        value: Any = self.values
        for depth, key in enumerate(keys):
            if not isinstance(value, dict) or key not in value:
                raise StyleError(f"{self.source}: key {'/'.join(keys[: depth + 1])!r} is missing")
            value = value[key]
        return value

    def model(self, name: str, among: Sequence[str] = ()) -> Look:
        """Return the look of a model; one without a row takes the next of `other_models`, by its place in `among`."""
        return self._look("models", name, among)

    def gpu(self, name: str, among: Sequence[str] = ()) -> Look:
        """Return the look of a GPU; one without a row takes the next of `other_gpus`."""
        return self._look("gpus", name, among)

    def service(self, name: str) -> Look:
        """Return the look of a service."""
        return self._as_look(self.get("services", name), name, f"services/{name}")

    @property
    def published(self) -> Look:
        """The look of published values."""
        return self._as_look(self.get("published"), "published", "published")

    def width_in(self, name: str) -> float:
        """Width of a column, in inches."""
        return float(self.get("widths_in", name))

    @property
    def column(self) -> str:
        """'mixed' (each figure as wide as it was designed), or 'single' or 'double' for all.

        Raises:
            StyleError: it is none of these.
        """
        found = str(self.get("column"))
        if found not in COLUMNS:
            raise StyleError(f"{self.source}: key 'column': found {found!r}, expected one of {', '.join(COLUMNS)}")
        return found

    def _look(self, group: str, name: str, among: Sequence[str]) -> Look:
        known = self.get(group)
        if name in known:
            return self._as_look(known[name], name, f"{group}/{name}")
        others = self.get(f"other_{group}")
        unknown = sorted({*among, name} - set(known))
        place = unknown.index(name) % len(others)
        return self._as_look(others[place], name, f"other_{group}[{place}]")

    def _as_look(self, row: dict[str, Any], name: str, where: str) -> Look:
        row = {"label": name, **row}
        if isinstance(row.get("line"), list):  # [offset, [on, off, ...]] in points
            row["line"] = (row["line"][0], tuple(row["line"][1]))
        try:
            return Look(**row)
        except TypeError as error:
            raise StyleError(f"{self.source}: {where}: {error}") from error


def apply(matplotlibrc: Path) -> None:
    """Set matplotlib's defaults from a file, and keep it to the fonts that it ships.

    A system's fonts of the same name differ between machines; without them a figure has the same bytes everywhere.
    """
    if not Path(matplotlibrc).is_file():
        raise StyleError(f"{matplotlibrc}: no such file (matplotlib's defaults)")
    try:
        matplotlib.rc_file(matplotlibrc)
    except UnicodeDecodeError as error:
        raise StyleError(f"{matplotlibrc}: not a text in UTF-8: {error}") from error
    shipped = matplotlib.get_data_path()
    manager = font_manager.fontManager
    manager.ttflist = [font for font in manager.ttflist if font.fname.startswith(shipped)]
    manager.afmlist = []


def canvas(
    style: Style,
    width: str,
    height_in: float,
    rows: int = 1,
    columns: int = 1,
    strip_in: float = STRIP_IN,
    fixed: bool = False,
    **kwargs: Any,
) -> tuple[Figure, np.ndarray]:
    """Return a figure of `rows` x `columns` panels below a strip that is kept free for legend and mark.

    Where the style asks for single columns, the panels of a figure of double width are put below each other, each as
    high as before, unless there are too many.

    Args:
        style: the style file.
        width: "single" or "double": what the figure was designed for.
        height_in: whole height, inches.
        rows: panels down.
        columns: panels across.
        strip_in: height of the strip, inches.
        fixed: whether it keeps its width, whatever the style asks for.
        kwargs: for `Figure.subplots`.

    Returns:
        The figure and its axes, shape (rows, columns).
    """
    asked = width if fixed or style.column == "mixed" else style.column
    stacked = asked == "single" and width == "double" and 1 < rows * columns <= MOST_STACKED and columns > 1
    if stacked:
        height_in = strip_in + columns * (height_in - strip_in)
        kwargs = {key: value for key, value in kwargs.items() if key == "sharey"}
    figure = Figure(figsize=(style.width_in(asked), height_in), gid=f"{STACKED}{columns}" if stacked else None)
    FigureCanvasAgg(figure)
    figure.set_layout_engine(ConstrainedLayoutEngine())
    axes = figure.subplots(*((rows * columns, 1) if stacked else (rows, columns)), squeeze=False, **kwargs)
    _set_strip(figure, strip_in)
    return figure, axes.reshape(rows, columns)


def _set_strip(figure: Figure, strip_in: float) -> None:
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(rect=(0, 0, 1, 1 - strip_in / figure.get_size_inches()[1]))


def _more_strip(figure: Figure, lines: int) -> None:
    """Make the strip, and the figure with it, higher by some lines."""
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    width, height = figure.get_size_inches()
    strip_in = (1 - engine.get()["rect"][3]) * height + lines * LINE_IN
    figure.set_size_inches(width, height + lines * LINE_IN)
    _set_strip(figure, strip_in)


def finish(figure: Figure) -> None:
    """Label the panels of a figure that is not as wide as it was designed.

    Stacked panels get the y label that stood at the left of their row only, and the x label below their column only; of
    panels beside each other with the same x label in a single column, one label stands below all.
    """
    panels = [axes for axes in figure.axes if axes.get_subplotspec() is not None]
    gid = figure.get_gid() or ""
    if gid.startswith(STACKED):
        columns = int(gid.removeprefix(STACKED))
        for place, axes in enumerate(panels):
            if axes.axison and not axes.get_ylabel():
                axes.set_ylabel(panels[place - place % columns].get_ylabel())
            if axes.axison and not axes.get_xlabel():
                axes.set_xlabel(panels[len(panels) - columns + place % columns].get_xlabel())
        return
    labelled = [axes for axes in panels if axes.get_xlabel()]
    if len(labelled) > 1 and len({axes.get_xlabel() for axes in labelled}) == 1 and figure.get_size_inches()[0] < 5:
        figure.supxlabel(labelled[0].get_xlabel(), fontsize=labelled[0].xaxis.label.get_fontsize())
        for axes in labelled:
            axes.set_xlabel("")


def legend(figure: Figure, handles: Sequence[Artist], handlelength: float | None = None) -> None:
    """Put one legend into the strip, from the left, in as many lines as it takes beside the mark."""
    width = figure.get_size_inches()[0]
    for lines in range(1, len(handles) + 1):
        height = figure.get_size_inches()[1]
        box = figure.legend(
            handles=list(handles),
            loc="upper left",
            bbox_to_anchor=(0.006, 1 - 0.02 / height),
            ncols=-(-len(handles) // lines),
            handlelength=handlelength,
        )
        box.set_in_layout(False)
        if box.get_window_extent().width <= (width - MARK_IN) * figure.dpi or lines == len(handles):
            return
        box.remove()
        _more_strip(figure, 1)


def mark(figure: Figure, text: str) -> None:
    """Put the mark ("twin", "simulated") into the upper right corner; nothing for an empty text."""
    if text:
        width, height = figure.get_size_inches()
        figure.text(
            1 - 0.05 / width,
            1 - 0.05 / height,
            text,
            ha="right",
            va="top",
            fontsize=6,
            fontweight="bold",
            color="#444444",
            bbox={"boxstyle": "round,pad=0.25", "facecolor": "#FFF6D6", "edgecolor": "#8A7A3A", "linewidth": 0.5},
            in_layout=False,
            gid="mark",
        )


def note(figure: Figure, text: str) -> None:
    """Put a text into the strip, in place of a legend, in as many lines as it takes beside the mark."""
    width, _ = figure.get_size_inches()
    lines = textwrap.wrap(text, int((width - MARK_IN) * NOTE_LETTERS))
    _more_strip(figure, len(lines) - 1)
    height = figure.get_size_inches()[1]
    figure.text(
        *(0.006, 1 - 0.05 / height, "\n".join(lines)),
        ha="left",
        va="top",
        fontsize=6.2,
        color="#333333",
        in_layout=False,
    )


def nothing(axes: Axes, text: str = "no such requests in this trace") -> None:
    """Say in an empty panel that the trace holds nothing to show in it."""
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.grid(False)


def log_axis(axes: Axes, low: float, high: float) -> None:
    """Make the y axis logarithmic, with labels at 1, 2, 5 of each decade, or more where less than a decade is shown."""
    axes.set_yscale("log")
    marks = (1, 2, 3, 5, 7) if high < 8 * low else (1, 2, 5) if high < 80 * low else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=marks))
    axes.yaxis.set_minor_locator(LogLocator(subs=tuple(range(1, 10))))
    axes.yaxis.set_major_formatter(thousands)
    axes.yaxis.set_minor_formatter(NullFormatter())


def letter(axes: Axes, number: int, title: str) -> None:
    """Title a panel: "(a) title"."""
    axes.set_title(f"({chr(ord('a') + number)}) {title}")


def thousands(value: float, _position: float | None = None) -> str:
    """Return a tick label with k and M: 0, 250, 1.5k, 20k, 2M."""
    for limit, suffix in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{suffix}"
    return f"{value:g}"


def spread(count: int, width: float) -> np.ndarray:
    """Return `count` offsets within ±width/2 that look irregular and are the same each time (golden-ratio sequence)."""
    return ((np.arange(count) * PHI) % 1 - 0.5) * width


def save(figure: Figure, out: Path, dpi: int, title: str, subject: str) -> None:
    """Write `out`.pdf, .svg and .png; the layout is solved once, and no file holds a date.

    Args:
        figure: the figure.
        out: path without suffix.
        dpi: of the PNG and of rasterised parts.
        title: goes into the files' metadata.
        subject: caption and mark, likewise.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    metadata: dict[str, dict[str, Any]] = {
        "pdf": {"Title": title, "Subject": subject, "CreationDate": None},
        "svg": {"Title": title, "Description": subject, "Date": None},
    }
    for suffix, entries in metadata.items():
        with replaced(out.with_name(f"{out.name}.{suffix}")) as temporary:
            figure.savefig(temporary, format=suffix, dpi=dpi, metadata=entries)
    _save_png(figure, out.with_name(f"{out.name}.png"), dpi, {"Title": title, "Description": subject})


def _save_png(figure: Figure, path: Path, dpi: int, texts: dict[str, str]) -> None:
    """Write a PNG of at most 256 colours: a third of the size, and no difference to the eye in drawings like these."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    picture = picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    info = PngInfo()
    for key, text in texts.items():
        info.add_itxt(key, text)
    with replaced(path) as temporary:
        picture.save(temporary, format="PNG", optimize=True, dpi=(dpi, dpi), pnginfo=info)
