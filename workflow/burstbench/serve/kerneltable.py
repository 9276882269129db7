"""Step times from measured kernel times: the table kind.

A profile is a folder with, for one GPU and one model of one layer, times in µs:

- ``profile_dense.csv``: ``layer, tokens, time_us``, of the linear and element-wise kernels;
- ``profile_per_sequence.csv``: ``layer, sequences, time_us``, of what runs over one row of each request;
- ``profile_attention.csv``: ``prefill_chunk, kv_prefill, n_decode, kv_decode, time_us``, of one chunk of a prompt with
  its context together with decoding requests of one context;
- ``profile_skew.csv``, optional: how far the time of unequal contexts (``t_skew_us``) goes from that of their mean
  towards that of the longest (column ``alpha``).

This is the format of LLMServingSim 2 (github.com/casys-kaist/LLMServingSim, MIT). A step takes::

    embedding + final_layernorm + layers (2 layernorm + qkv_proj + rotary_emb + o_proj + gate_up_proj + act_fn
        + down_proj + attention) + lm_head + sampler + host

interpolated linearly between the measured points.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from burstbench.errors import UserError
from burstbench.serve.steptime import ANALYTIC, Floats, StepTime

# How often a step runs each kernel: (once, in every layer).
_DENSE = {
    "embedding": (1, 0),
    "final_layernorm": (1, 0),
    "layernorm": (0, 2),
    "qkv_proj": (0, 1),
    "rotary_emb": (0, 1),
    "o_proj": (0, 1),
    "gate_up_proj": (0, 1),
    "act_fn": (0, 1),
    "down_proj": (0, 1),
}
_PER_SEQUENCE = ("lm_head", "sampler")
_TEXT = ("layer", "regime")
_AXES = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode")
FILES = ("profile_dense.csv", "profile_per_sequence.csv", "profile_attention.csv", "profile_skew.csv")


class ProfileError(UserError):
    """A profile is missing, incomplete or not finite: names the file and what was expected."""


@dataclass(frozen=True)
class Profile:
    """Kernel times of one GPU and model.

    Attributes:
        once_s, layer_s: [n] time of the kernels that run once, and of one layer's, at `tokens`.
        tokens: [n] ascending.
        head_s: [m] at `sequences` rows.
        sequences: [m] ascending.
        axes: nodes of the attention grid: tokens of the chunk, its context, decoding requests, their context.
        attention_s: [axes] of one layer.
        skew: median share of the way from the time of the mean context to that of the longest, decoding only.
        extrapolated: cells of the grid that were not measured.
    """

    once_s: Floats
    layer_s: Floats
    tokens: Floats
    head_s: Floats
    sequences: Floats
    axes: tuple[Floats, Floats, Floats, Floats]
    attention_s: Floats
    skew: float
    extrapolated: int


def _columns(path: Path, names: tuple[str, ...]) -> dict[str, npt.NDArray[Any]]:
    """Read columns: text of `_TEXT`; else numbers, all of them finite and not negative but for `alpha`."""
    try:
        table = csv.read_csv(path)
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise ProfileError(f"{path}: not a readable kernel profile: {error}") from error
    for name in names:
        if name not in table.column_names:
            raise ProfileError(f"{path}: column {name!r} is missing; expected {', '.join(names)}")
    values = {}
    for name in names:
        if name in _TEXT:
            values[name] = table.column(name).to_numpy(zero_copy_only=False)
            continue
        try:
            numbers = pc.fill_null(table.column(name).cast(pa.float64()), float("nan")).to_numpy()
        except pa.ArrowInvalid as error:
            raise ProfileError(f"{path}: column {name!r}: {error}") from error
        if name == "alpha":
            values[name] = numbers
            continue
        bad = np.flatnonzero(~np.isfinite(numbers) | ((numbers <= 0) if name == "time_us" else (numbers < 0)))
        if bad.size:
            expected = "a positive number" if name == "time_us" else "a number of at least 0"
            raise ProfileError(f"{path}: column {name!r}, row {bad[0]}: found {numbers[bad[0]]}, expected {expected}")
        values[name] = numbers
    return values


def _curve(path: Path, layers: npt.NDArray[Any], at: Floats, times: Floats, wanted: str) -> tuple[Floats, Floats]:
    mine = layers == wanted
    if not mine.any():
        raise ProfileError(f"{path}: layer {wanted!r} is missing")
    order = np.argsort(at[mine], kind="stable")
    nodes, seconds = at[mine][order], times[mine][order] * 1e-6
    if (np.diff(nodes) <= 0).any():
        raise ProfileError(f"{path}: layer {wanted!r} has two times for one size")
    return nodes, seconds


def read(folder: Path) -> Profile:
    """Read the profile in a folder.

    Raises:
        ProfileError: a file, column or layer is missing, a time is not a positive number, or the grid of attention has
            holes that cannot be filled.
    """
    folder = Path(folder)
    path = folder / FILES[0]
    dense = _columns(path, ("layer", "tokens", "time_us"))
    nodes: Floats | None = None
    once = layer = np.zeros(0)
    for name, (single, repeated) in _DENSE.items():
        at, seconds = _curve(path, dense["layer"], dense["tokens"], dense["time_us"], name)
        if nodes is None:
            nodes, once, layer = at, np.zeros(at.size), np.zeros(at.size)
        seconds = np.interp(nodes, at, seconds)
        once, layer = once + single * seconds, layer + repeated * seconds
    assert nodes is not None
    path = folder / FILES[1]
    rows = _columns(path, ("layer", "sequences", "time_us"))
    sequences, head = _curve(path, rows["layer"], rows["sequences"], rows["time_us"], _PER_SEQUENCE[0])
    for name in _PER_SEQUENCE[1:]:
        at, seconds = _curve(path, rows["layer"], rows["sequences"], rows["time_us"], name)
        head = head + np.interp(sequences, at, seconds)
    axes, grid, extrapolated = _grid(folder / FILES[2])
    skew = 0.0
    path = folder / FILES[3]
    if path.exists():
        unequal = _columns(path, ("regime", "alpha"))
        # A share is left empty where mean and longest context take the same time; it may be a little below 0.
        pure = unequal["alpha"][(unequal["regime"] == "pure") & np.isfinite(unequal["alpha"])]
        if not pure.size:
            raise ProfileError(f"{path}: found no alpha of the regime 'pure', expected at least one")
        skew = max(0.0, float(np.median(pure)))
    return Profile(once, layer, nodes, head, sequences, axes, grid, skew, extrapolated)


def _grid(path: Path) -> tuple[tuple[Floats, Floats, Floats, Floats], Floats, int]:
    """The attention times as a full grid. What has no chunk or no decoding request does not depend on its context."""
    values = _columns(path, (*_AXES, "time_us"))
    chunk, before, decodes, context = (values[name] for name in _AXES)
    axes = tuple(np.unique(values[name][values[name] > 0]) for name in (_AXES[3],))
    chunks, befores, counts = np.unique(chunk), np.unique(before), np.unique(decodes)
    contexts = axes[0]
    if min(chunks.size, befores.size, counts.size, contexts.size) < 2 or chunks[0] or counts[0]:
        raise ProfileError(f"{path}: expected a grid from 0 with at least two values of {', '.join(_AXES)}")
    grid = np.full((chunks.size, befores.size, counts.size, contexts.size), np.nan)
    seen: dict[tuple[float, ...], int] = {}
    for row, place in enumerate(zip(chunk, before, decodes, context, strict=True)):
        if place in seen:
            cell = ", ".join(f"{name} = {value:g}" for name, value in zip(_AXES, place, strict=True))
            raise ProfileError(f"{path}: rows {seen[place]} and {row}: two times for {cell}")
        seen[place] = row
        i, k = np.searchsorted(chunks, chunk[row]), np.searchsorted(counts, decodes[row])
        j = slice(None) if i == 0 else np.searchsorted(befores, before[row])
        m = slice(None) if k == 0 else np.searchsorted(contexts, context[row])
        grid[i, j, k, m] = values["time_us"][row] * 1e-6
    grid[0, :, 0, :] = 0.0
    holes = np.isnan(grid)
    # More decoding requests beside a chunk than were measured: the last slope goes on.
    for k in range(2, counts.size):
        slope = (grid[:, :, k - 1] - grid[:, :, k - 2]) / (counts[k - 1] - counts[k - 2])
        guess = grid[:, :, k - 1] + slope * (counts[k] - counts[k - 1])
        grid[:, :, k] = np.where(np.isnan(grid[:, :, k]), guess, grid[:, :, k])
    if np.isnan(grid).any():
        i, j, k, m = np.argwhere(np.isnan(grid))[0]
        where = (chunks[i], befores[j], counts[k], contexts[m])
        cell = ", ".join(f"{name} = {value:g}" for name, value in zip(_AXES, where, strict=True))
        raise ProfileError(f"{path}: no time for {cell}")
    return (chunks, befores, counts, contexts), grid, int(holes.sum())


def table(
    profile: Profile,
    layers: int,
    max_tokens: int,
    max_requests: int,
    host: tuple[float, float] = (0.0, 0.0),
    graph_sizes: tuple[int, ...] = (),
    skew: bool = True,
) -> StepTime:
    """Return the step times of a model of so many layers.

    Args:
        profile: kernel times.
        layers: of the model.
        max_tokens: most tokens a step may have.
        max_requests: most requests a batch may have.
        host: host time of a step, s: constant, and per request of the batch.
        graph_sizes: ascending; a step of at most the largest is padded to the next of them in its linear kernels, as
            CUDA graphs are replayed.
        skew: whether unequal contexts cost more than their mean does.
    """
    tokens = np.arange(max_tokens + 1, dtype=np.float64)
    if graph_sizes:
        sizes = np.array(graph_sizes, dtype=np.float64)
        inside = tokens <= sizes[-1]
        tokens[inside] = sizes[np.searchsorted(sizes, tokens[inside])]
    linear_s = _extended(tokens, profile.tokens, profile.once_s + layers * profile.layer_s)
    head_s = _extended(np.arange(max_requests + 1, dtype=np.float64), profile.sequences, profile.head_s)
    header = np.zeros(ANALYTIC)
    header[:2] = host
    header[2:6] = profile.attention_s.shape
    header[6] = profile.skew if skew else 0.0
    return StepTime(linear_s, head_s, np.concatenate([header, *profile.axes, layers * profile.attention_s.ravel()]))


def _extended(at: Floats, nodes: Floats, values: Floats) -> Floats:
    """Linear interpolation; beyond the last node in proportion to its value, below the first constant."""
    inside = np.interp(at, nodes, values)
    return np.where(at > nodes[-1], values[-1] * at / nodes[-1], inside)


def validity(profile: Profile, tokens: float, requests: float, context: float) -> list[str]:
    """Say where a run went beyond the profile: most tokens of a step, most requests of a batch, longest context."""
    warnings = []
    if tokens > profile.tokens[-1]:
        warnings.append(
            f"a step had {tokens:g} tokens; kernels were measured up to {profile.tokens[-1]:g}: extrapolated"
        )
    if requests > min(profile.sequences[-1], profile.axes[2][-1]):
        most = min(profile.sequences[-1], profile.axes[2][-1])
        warnings.append(f"a batch had {requests:g} requests; kernels were measured up to {most:g}: extrapolated")
    if context > profile.axes[3][-1]:
        warnings.append(
            f"a request decoded with a context of {context:g} tokens; attention was measured up to "
            f"{profile.axes[3][-1]:g}: extrapolated"
        )
    return warnings
