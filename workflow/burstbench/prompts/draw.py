"""Which prompt serves a request of a given length: one of those long enough, each equally likely.

A prompt of T tokens serves every length up to T, by truncation. With the pool's index sorted by token count, the
candidates of a length are a suffix of it, so that a draw is one binary search and one uniform integer.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from burstbench.errors import UserError


def draw(
    index_tokens_sorted: NDArray[np.int64],
    prompt_ids: NDArray[np.int64],
    lengths: ArrayLike,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Draw one prompt for each length, uniformly among those with at least that many tokens.

    The k-th draw takes the k-th integer of `rng`, so the result depends on the pool, the lengths and the seed alone.

    Args:
        index_tokens_sorted: tokens of each prompt of the pool, shape (prompts,), never decreasing
            (column `tokens` of `pool_index.parquet`).
        prompt_ids: the prompts they belong to, shape (prompts,) (its column `prompt_id`).
        lengths: wanted lengths [tokens], shape (n,), whole numbers from 1.
        rng: generator of this purpose.

    Returns:
        The prompt of each request, shape (n,), int64.

    Raises:
        UserError: a length is below 1, or longer than the longest prompt.
    """
    wanted = np.asarray(lengths)
    if wanted.size == 0:
        return np.empty(0, dtype=np.int64)
    if not np.issubdtype(wanted.dtype, np.integer):
        raise UserError(f"prompt lengths are whole numbers of tokens, found values of type {wanted.dtype}")
    longest = int(index_tokens_sorted[-1]) if len(index_tokens_sorted) else 0
    bad = np.flatnonzero((wanted < 1) | (wanted > longest))
    if bad.size:
        row = int(bad[0])
        raise UserError(
            f"the prompt pool cannot serve request {row}: found a length of {int(wanted[row])} tokens, expected 1 to "
            f"{longest}, the pool's longest prompt ({bad.size} of {wanted.size} requests are out of these limits)"
        )
    # Searching once per length instead of once per request: sorted lengths repeat, and the table stays in the cache.
    first_of_length = np.searchsorted(index_tokens_sorted, np.arange(longest + 1), side="left")
    first = first_of_length[wanted]
    return prompt_ids[rng.integers(first, len(index_tokens_sorted))].astype(np.int64, copy=False)


def candidates(index_tokens_sorted: NDArray[np.int64], lengths: ArrayLike) -> NDArray[np.int64]:
    """Return how many prompts can serve each length [tokens], shape (n,); 0 where none can."""
    found = np.searchsorted(index_tokens_sorted, np.asarray(lengths), side="left")
    return len(index_tokens_sorted) - found
