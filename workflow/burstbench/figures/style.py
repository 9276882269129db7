"""How figures look: the style file, the canvas with its strip for legend and mark, and files of the same bytes each time.

Everything goes through `matplotlib.figure.Figure`; pyplot, which keeps global state and starts slowly, is not used.
"""

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

from burstbench.errors import UserError
from burstbench.files import replaced

STRIP_IN = 0.22  # height of the strip above the panels that holds the legend and the mark
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
            StyleError: the file is missing, not YAML or not a mapping.
        """
        import yaml

        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise StyleError(f"{path}: no such style file") from error
        except yaml.YAMLError as error:
            raise StyleError(f"{path}: not YAML: {error}") from error
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
    matplotlib.rc_file(matplotlibrc)
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
    **kwargs: Any,
) -> tuple[Figure, np.ndarray]:
    """Return a figure of `rows` x `columns` panels below a strip that is kept free for legend and mark.

    Args:
        style: the style file.
        width: "single" or "double".
        height_in: whole height, inches.
        rows, columns: panels.
        strip_in: height of the strip, inches.
        kwargs: for `Figure.subplots`.

    Returns:
        The figure and its axes, shape (rows, columns).
    """
    figure = Figure(figsize=(style.width_in(width), height_in))
    FigureCanvasAgg(figure)
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - strip_in / height_in)))
    axes = figure.subplots(rows, columns, squeeze=False, **kwargs)
    return figure, axes


def legend(figure: Figure, handles: Sequence[Artist], columns: int | None = None) -> None:
    """Put one legend into the strip, from the left."""
    height = figure.get_size_inches()[1]
    box = figure.legend(
        handles=list(handles),
        loc="upper left",
        bbox_to_anchor=(0.006, 1 - 0.02 / height),
        ncols=columns or len(handles),
    )
    box.set_in_layout(False)


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


def letter(axes: Axes, number: int, title: str) -> None:
    """Title a panel: "(a) title"."""
    axes.set_title(f"({chr(ord('a') + number)}) {title}")


def thousands(value: float, _position: int | None = None) -> str:
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
        title, subject: go into the files' metadata.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    metadata: dict[str, dict[str, Any]] = {
        "pdf": {"Title": title, "Subject": subject, "CreationDate": None},
        "svg": {"Title": title, "Description": subject, "Date": None},
        "png": {"Title": title, "Description": subject},
    }
    for suffix, entries in metadata.items():
        with replaced(out.with_name(f"{out.name}.{suffix}")) as temporary:
            figure.savefig(temporary, format=suffix, dpi=dpi, metadata=entries)


def plain_minor(value: float, _position: int | None = None) -> str:
    """Return a label for the minor ticks 2 and 5 of each decade of a log axis, "" for the others."""
    leading = value / 10 ** np.floor(np.log10(value))
    return thousands(value) if round(leading, 6) in {2, 5} else ""
