"""How long a step of the engine takes, from the shapes of model and batch and the speed of the GPU.

The analytic kind is a roofline with a soft corner. With F the peak arithmetic (FLOP/s), B the bandwidth (bytes/s), n
the tokens of the step, and the other letters as in `burstbench.serve.gpus`::

    gemm(n, k, m) = cg + [ (2nkm / (ff F))^p + (2(km + nk + nm) / (bf B))^p ]^(1/p)
    elementwise   = ce + 2n (4h + 2(heads + kv_heads) head_dim + 3i + 6h) / (ebf B)
    prefill       = pc + 4 heads head_dim sum(n ctx + n(n + 542)/2) / (pf F)           summed over chunks
    decode        = ac + [ (4 kv_heads head_dim sum(ctx) / (abf B) + ar b kv_heads)^q + (as max(ctx))^q ]^(1/q)
    step          = host0 + host1 b + layers (4 gemms + elementwise + attention) + lm_head

The four products of a layer are query-key-value, attention output, gate-and-up and down. `lm_head` runs over one row
of each request in the batch, which is what vLLM computes. A decoding request's context counts the token it adds.

The 542 tokens of prefill stand for what does not run in parallel: a kernel's longest row passes over n tokens however
few rows there are, so a prompt of 512 tokens reaches 15 % of the A100's peak, one of 4096 47 %, one of 16,384 56 %. The
constant pc is one launch's, whatever the number of chunks (16 prompts of one token take 24 µs, one takes 11).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from numba.extending import register_jitable

from burstbench.errors import UserError
from burstbench.serve.gpus import Gpu, Model

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Host:
    """The host's part of a step, and the software's: fractions that newer kernels changed on every GPU.

    Attributes:
        step_s: per step.
        request_s: per request in the batch.
        bf, ce_us, abf: replace the GPU's, where given, unless those are of `modern_kernels`.
    """

    step_s: float
    request_s: float
    bf: float | None = None
    ce_us: float | None = None
    abf: float | None = None


HOSTS: Mapping[str, Host] = {
    # vLLM of early 2024: fitted to the host times of public profiles.
    "v0-2024": Host(1.3e-3, 0.105e-3),
    # Today: scheduling overlaps with the GPU, kernels are fused and replayed as graphs.
    "modern": Host(0.0, 0.01e-3, bf=0.88, ce_us=10.0, abf=0.92),
}


@dataclass(frozen=True)
class StepTime:
    """A step-time model in the form the compiled scheduler reads.

    Attributes:
        linear_s: [max tokens + 1] time of all layers' linear and element-wise kernels by tokens of the step.
        head_s: [max requests + 1] time of lm_head by requests in the batch.
        attention: constants of `seconds`: [9] of the analytic kind; more are the packed grid of the table kind.
    """

    linear_s: Floats
    head_s: Floats
    attention: Floats


# Tokens by which a chunk's attention is slower than its arithmetic; see above.
PREFILL_RAMP = 542.0
# Numbers that the attention of the analytic kind has; the grid of the table kind follows a header as long.
ANALYTIC = 9
# In the header of a grid: lengths of its four axes from here, and how far a step goes from the time of the mean context
# to that of the longest.
_AXES, _SKEW = 2, 6


@register_jitable
def _attention_s(
    grid: Floats, tokens: int, decodes: int, context_sum: int, context_max: int, prefill_work: float
) -> float:
    """Time in s of a step's attention, interpolated in a packed grid; see `burstbench.serve.kerneltable`.

    A step may compute several chunks; the grid knows one. It stands for them with as many tokens and the context that
    gives the same arithmetic, or, where that would be negative, with fewer tokens and none.
    """
    chunk = float(tokens - decodes)
    work = prefill_work - 0.5 * PREFILL_RAMP * chunk
    context = 0.0
    if chunk > 0:
        context = work / chunk - 0.5 * chunk
        if context < 0:
            context = 0.0
            chunk = np.sqrt(max(2.0 * work, 1.0))
    mean = context_sum / decodes if decodes > 0 else 0.0
    time = _interpolated(grid, chunk, context, float(decodes), mean)
    if grid[_SKEW] > 0 and decodes > 1:
        time += grid[_SKEW] * (_interpolated(grid, chunk, context, float(decodes), float(context_max)) - time)
    return time


@register_jitable
def _interpolated(grid: Floats, chunk: float, context: float, decodes: float, mean: float) -> float:
    """Multilinear interpolation; beyond the last node of an axis the last slope goes on."""
    point = (chunk, context, decodes, mean)
    low = np.empty(4, np.int64)
    share = np.empty(4)
    start = ANALYTIC
    for axis in range(4):
        size = int(grid[_AXES + axis])
        place = 0
        while place < size - 2 and grid[start + place + 1] <= point[axis]:
            place += 1
        low[axis] = place
        share[axis] = (point[axis] - grid[start + place]) / (grid[start + place + 1] - grid[start + place])
        start += size
    time = 0.0
    for corner in range(16):
        weight = 1.0
        index = 0
        for axis in range(4):
            up = (corner >> axis) & 1
            weight *= share[axis] if up else 1.0 - share[axis]
            index = index * int(grid[_AXES + axis]) + low[axis] + up
        if weight != 0.0:
            time += weight * grid[start + index]
    return time


def seconds(
    linear_s: Floats,
    head_s: Floats,
    attention: Floats,
    tokens: int,
    requests: int,
    decodes: int,
    context_sum: int,
    context_max: int,
    chunks: int,
    prefill_work: float,
) -> float:
    """Return the time of one step in s. Compiled by the scheduler; plain Python here.

    Args:
        linear_s: of `StepTime`.
        head_s: of `StepTime`.
        attention: of `StepTime`.
        tokens: that the linear kernels run over (padded ones included).
        requests: in the batch.
        decodes: requests that decode.
        context_sum: sum of their contexts in tokens.
        context_max: longest of them.
        chunks: prompts or parts of prompts.
        prefill_work: sum over them of `prefill_work`.
    """
    time = linear_s[tokens] + head_s[requests] + attention[0] + attention[1] * requests
    if attention.size > ANALYTIC:
        # Without a chunk, rows beyond the decoding ones only fill a CUDA graph up; attention passes over none of them.
        rows = tokens if chunks > 0 else decodes
        return float(time + _attention_s(attention, rows, decodes, context_sum, context_max, prefill_work))
    if decodes > 0:
        read = attention[3] * context_sum + attention[4] * decodes
        q = attention[6]
        time += attention[2] + (read**q + (attention[5] * context_max) ** q) ** (1.0 / q)
    if chunks > 0:
        time += attention[7] + attention[8] * prefill_work
    return time


def prefill_work(tokens: int, context: int) -> float:
    """Return ``n ctx + n (n + 542) / 2``: pairs of tokens that a chunk's causal attention computes. Compiled as above.

    Args:
        tokens: n, of the chunk.
        context: of its prompt, computed before it.
    """
    return float(tokens) * context + 0.5 * tokens * (tokens + PREFILL_RAMP)


def gemm_s(n: Floats, k: int, m: int, gpu: Gpu) -> Floats:
    """Time in s of a product of an n x k and a k x m matrix of 16-bit numbers."""
    fit = gpu.linear
    arithmetic = 2.0 * n * k * m / (fit.ff * gpu.peak_tflops * 1e12)
    traffic = 2.0 * (float(k) * m + n * k + n * m) / (fit.bf * gpu.bandwidth_gb_s * 1e9)
    return fit.cg_us * 1e-6 + (arithmetic**fit.p + traffic**fit.p) ** (1.0 / fit.p)


def elementwise_s(n: Floats, hidden: int, attended: int, intermediate: int, gpu: Gpu) -> Floats:
    """Time in s of one layer's element-wise kernels over n tokens; `attended`: (heads + kv_heads) head_dim."""
    touched = 4 * hidden + 2 * attended + 3 * intermediate + 6 * hidden
    return gpu.linear.ce_us * 1e-6 + 2.0 * n * touched / (gpu.linear.ebf * gpu.bandwidth_gb_s * 1e9)


def layer_s(n: Floats, model: Model, gpu: Gpu) -> Floats:
    """Time in s of one layer's linear and element-wise kernels over n tokens."""
    h, i = model.hidden, model.intermediate
    queries, both = model.heads * model.head_dim, (model.heads + 2 * model.kv_heads) * model.head_dim
    products = gemm_s(n, h, both, gpu) + gemm_s(n, queries, h, gpu) + gemm_s(n, h, 2 * i, gpu) + gemm_s(n, i, h, gpu)
    return products + elementwise_s(n, h, (model.heads + model.kv_heads) * model.head_dim, i, gpu)


def analytic(model: Model, gpu: Gpu, host: str, max_tokens: int, max_requests: int) -> StepTime:
    """Return the analytic step-time model of a model on a GPU.

    Args:
        model: its row.
        gpu: its row.
        host: key of `HOSTS`.
        max_tokens: most tokens a step may have.
        max_requests: most requests a batch may have.

    Raises:
        UserError: no such host.
    """
    if host not in HOSTS:
        raise UserError(f"host: found {host!r}, expected one of {', '.join(HOSTS)}")
    software = HOSTS[host]
    if not gpu.modern_kernels:
        linear: dict[str, Any] = {key: getattr(software, key) for key in ("bf", "ce_us") if getattr(software, key)}
        gpu = replace(gpu, linear=replace(gpu.linear, **linear))
        if software.abf:
            gpu = replace(gpu, attention=replace(gpu.attention, abf=software.abf))
    fit, layers = gpu.attention, model.layers
    tokens = np.arange(max_tokens + 1, dtype=np.float64)
    rows = np.arange(max_requests + 1, dtype=np.float64)
    linear_s = layers * layer_s(tokens, model, gpu)
    head_s = gemm_s(rows, model.hidden, model.vocab, gpu)
    # The constants of all layers together: (sum of layers) x^q inside the bracket scales as layers^q, so each term may
    # carry the factor itself.
    attention = np.array(
        [
            software.step_s,
            software.request_s,
            layers * fit.ac_us * 1e-6,
            layers * 4.0 * model.kv_heads * model.head_dim / (fit.abf * gpu.bandwidth_gb_s * 1e9),
            layers * fit.ar_ns * 1e-9 * model.kv_heads,
            layers * fit.as_ns * 1e-9,
            fit.q,
            layers * fit.pc_us * 1e-6,
            layers * 4.0 * model.heads * model.head_dim / (fit.pf * gpu.peak_tflops * 1e12),
        ]
    )
    if not (np.isfinite(linear_s).all() and np.isfinite(head_s).all() and np.isfinite(attention).all()):
        raise UserError(f"{model.label} on {gpu.label}: the step times are not finite; a fraction is out of range")
    return StepTime(linear_s, head_s, attention)


def decode_step_s(times: StepTime, batch: int, context: int) -> float:
    """Time in s of a step in which `batch` requests decode, each with `context` tokens."""
    return float(
        seconds(times.linear_s, times.head_s, times.attention, batch, batch, batch, batch * context, context, 0, 0.0)
    )


def prefill_step_s(times: StepTime, tokens: int) -> float:
    """Time in s of a step that computes one whole prompt."""
    return float(seconds(times.linear_s, times.head_s, times.attention, tokens, 1, 0, 0, 0, 1, prefill_work(tokens, 0)))


def validity(model: Model, gpu: Gpu, largest_step: int) -> list[str]:
    """Say where the step times go beyond what was measured.

    Args:
        model: its row.
        gpu: its row.
        largest_step: most tokens of any step of the run.
    """
    warnings = []
    if not gpu.attention_measured:
        warnings.append(f"attention was not measured on {gpu.label}; its fractions are assumed: {gpu.attention.source}")
    if model.kv_heads > gpu.attention.max_kv_heads:
        warnings.append(
            f"decode attention was measured with up to {gpu.attention.max_kv_heads} KV heads; {model.label} has "
            f"{model.kv_heads}: extrapolated"
        )
    if model.kv_heads < model.heads:
        warnings.append(
            f"decode attention was fitted with as many heads as KV heads; {model.label} has {model.heads} on "
            f"{model.kv_heads}: too fast at short contexts, too slow at long ones (data/validation/kernel_times.csv)"
        )
    if largest_step > gpu.linear.max_tokens:
        warnings.append(
            f"a step had {largest_step} tokens; linear kernels were measured up to {gpu.linear.max_tokens}: "
            "extrapolated"
        )
    return warnings
