"""Rows of config/gpus.yaml and config/models.yaml, checked. Light: the configuration check imports it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from burstbench.errors import UserError

GIB = 1 << 30


class RowError(UserError):
    """A row of gpus.yaml or models.yaml is wrong: names the row's key, what was found and what was expected."""


def _checked(kind: type, row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The row's values in the types of a dataclass; every number is finite and positive."""
    if not isinstance(row, Mapping):
        raise RowError(f"{where}: found {row!r}, expected a mapping")
    wanted = {field.name: field.type for field in fields(kind)}
    for key in row:
        if key not in wanted:
            raise RowError(f"{where}: unknown key {key!r}; known here: {', '.join(wanted)}")
    values: dict[str, Any] = {}
    for key, expected in wanted.items():
        if key not in row:
            raise RowError(f"{where}: key {key!r} is missing")
        value = row[key]
        if expected is float or expected is int:
            right = (
                isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0
            )
            if not right or (expected is int and value != int(value)):
                kind_of = "positive whole number" if expected is int else "positive number"
                raise RowError(f"{where}: {key}: found {value!r}, expected a {kind_of}")
            values[key] = expected(value)
        elif expected is bool or expected is str:
            if not isinstance(value, expected):
                raise RowError(f"{where}: {key}: found {value!r}, expected {expected.__name__}")
            values[key] = value
        else:
            values[key] = value
    return values


@dataclass(frozen=True)
class Linear:
    """How well a GPU runs one layer's matrix products and element-wise kernels.

    Attributes:
        ff, bf: shares of peak arithmetic and of bandwidth that a matrix product reaches.
        p: how sharply the two limits meet.
        cg_us: constant time of one matrix product in µs.
        ce_us: constant time of a layer's element-wise kernels in µs.
        ebf: share of bandwidth that they reach.
        error: mean absolute relative error of the fit on the layer it was fitted to.
        max_tokens: most tokens a step had in the measurements; from 1.
        source: what it was fitted to.
    """

    ff: float
    bf: float
    p: float
    cg_us: float
    ce_us: float
    ebf: float
    error: float
    max_tokens: int
    source: str


@dataclass(frozen=True)
class Attention:
    """How well a GPU runs attention.

    Attributes:
        ac_us: constant time of decode attention in µs.
        abf: share of bandwidth that reading the KV cache reaches.
        as_ns: time per token of the longest context in ns.
        ar_ns: time per row and KV head in ns.
        q: how sharply the two meet.
        pc_us: constant time of prefill attention in µs.
        pf: share of peak arithmetic that prefill attention reaches.
        decode_error, prefill_error: mean absolute relative errors of the fits.
        max_kv_heads: most KV heads of the decode measurements.
        source: what it was fitted to.
    """

    ac_us: float
    abf: float
    as_ns: float
    ar_ns: float
    q: float
    pc_us: float
    pf: float
    decode_error: float
    prefill_error: float
    max_kv_heads: int
    source: str


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        label: short name for figures.
        name: as the driver says it; vLLM's default limits depend on it.
        memory_gib: of the data sheet.
        visible_memory_gib: as CUDA reports it: what an engine can take a share of.
        peak_tflops: dense 16-bit, of the data sheet.
        bandwidth_gb_s: of the data sheet, 1e9 bytes/s.
        attention_measured: whether the attention fractions come from this die; else they are assumed from another.
        modern_kernels: whether the fractions come from the kernels of a vLLM of today; the host `modern` then replaces
            none of them.
    """

    label: str
    name: str
    memory_gib: float
    visible_memory_gib: float
    peak_tflops: float
    bandwidth_gb_s: float
    linear: Linear
    attention: Attention
    attention_measured: bool
    modern_kernels: bool

    @classmethod
    def of(cls, row: Mapping[str, Any], where: str = "gpu") -> Self:
        """Read a row of gpus.yaml.

        Raises:
            RowError: a key is missing or unknown, or a value is not what it should be.
        """
        values = _checked(cls, row, where)
        values["linear"] = Linear(**_checked(Linear, values["linear"], f"{where}.linear"))
        values["attention"] = Attention(**_checked(Attention, values["attention"], f"{where}.attention"))
        return cls(**values)


@dataclass(frozen=True)
class Model:
    """One served model: the shape of a decoder-only transformer with gated MLP.

    Attributes:
        label: short name for figures.
        hub: name on the Hugging Face hub.
        layers, hidden, heads, kv_heads, head_dim, intermediate, vocab: its shape.
        max_model_len: tokens of prompt and response together.
        parameters: of the whole model.
        bytes_per_parameter: as served.
        bytes_per_kv_value: of one number of the KV cache.
    """

    label: str
    hub: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    max_model_len: int
    parameters: int
    bytes_per_parameter: int
    bytes_per_kv_value: int

    @classmethod
    def of(cls, row: Mapping[str, Any], where: str = "model") -> Self:
        """Read a row of models.yaml.

        Raises:
            RowError: a key is missing or unknown, or a value is not what it should be.
        """
        return cls(**_checked(cls, row, where))

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of the KV cache that one token takes: keys and values of every layer."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.bytes_per_kv_value

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights."""
        return self.parameters * self.bytes_per_parameter
