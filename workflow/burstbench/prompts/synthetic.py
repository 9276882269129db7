"""Prompts without a pool: token ids drawn at random, for a server whose text does not matter.

A prompt's ids depend on seed and number alone, and a shorter prompt is the beginning of a longer one of that number,
as in the pool. Two numbers share no beginning, so a server's prefix cache finds nothing.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from burstbench import contracts, seeds
from burstbench.errors import UserError

PROMPTS = 65_536
LOWEST_ID = 10  # the first ids are marks of begin, end and the like in most vocabularies


@dataclass(frozen=True)
class Synthetic:
    """Random prompts.

    Attributes:
        seed: root of their streams.
        max_tokens: of the longest.
        vocabulary: ids are LOWEST_ID to vocabulary - 1; a server refuses ids that it does not know.
    """

    seed: int
    max_tokens: int
    vocabulary: int

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn from."""
        if self.vocabulary <= LOWEST_ID:
            raise UserError(f"vocabulary: found {self.vocabulary}, expected more than {LOWEST_ID} token ids")

    def tokens(self, prompt_id: int, n: int) -> NDArray[np.int64]:
        """Return the first n token ids of a prompt, shape (n,)."""
        rng = seeds.generator(self.seed, "prompts", "synthetic", prompt_id)
        return rng.integers(LOWEST_ID, self.vocabulary, n)

    def index(self) -> pa.Table:
        """Return the pool's index (contract POOL_INDEX): every prompt serves every length."""
        columns = {"tokens": np.full(PROMPTS, self.max_tokens), "prompt_id": np.arange(PROMPTS)}
        return pa.table(columns, schema=contracts.POOL_INDEX.schema)
