"""Prompts as text that re-encodes to the planned number of tokens, for servers that take no token ids.

Cutting a dialogue after n tokens and decoding it does not always give a text of n tokens: pieces join at the borders of
turns, and a cut may fall inside a character. So a piece whose text has exactly n tokens is looked for near the prompt's
beginning; where there is none, the prompt is refused. The server must not add marks of begin or end (vLLM:
`add_special_tokens: false`).
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from burstbench.errors import UserError
from burstbench.prompts.pool import Pool
from burstbench.prompts.tokenizer import Tokenizer

REACH = 12  # tokens by which begin and end of the piece are moved


@dataclass(frozen=True)
class Texts:
    """A pool's prompts as text; can be sent to another process.

    Attributes:
        pool_path: pool.arrow.
        tokenizer_path: of the tokenizer that made it.
    """

    pool_path: Path
    tokenizer_path: Path

    def __post_init__(self) -> None:
        """Refuse a tokenizer that did not make the pool."""
        if self.pool.tokenizer_sha256 != self.tokenizer.sha256:
            raise UserError(
                f"{self.tokenizer_path}: SHA-256 {self.tokenizer.sha256[:12]}..., but {self.pool_path} was made with "
                f"the tokenizer {self.pool.tokenizer_sha256[:12]}..."
            )

    @cached_property
    def pool(self) -> Pool:
        """The pool."""
        return Pool(self.pool_path)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer."""
        return Tokenizer(self.tokenizer_path)

    def __call__(self, prompt_id: int, n: int) -> str:
        """Return a text of exactly n tokens from the beginning of a prompt.

        Raises:
            UserError: the prompt is too short, or no piece of it has exactly n tokens.
        """
        self.pool.tokens(prompt_id, n)  # refuses what is not there
        longest = int(self.pool.lengths[prompt_id])
        steps = [step for reach in range(REACH + 1) for step in ((reach, -reach) if reach else (0,))]
        for start in range(REACH + 1):  # a first token may have no text of its own
            for end in (start + n + step for step in steps):
                if start < end <= longest:
                    text = self.tokenizer.decode(self.pool.tokens(prompt_id, end)[start:])
                    if len(self.tokenizer.encode([text])[0]) == n:
                        return text
        raise UserError(
            f"{self.pool_path}: prompt {prompt_id}: found no piece near its beginning whose text has {n} tokens; send "
            "token ids, or change the seed"
        )

    def __getstate__(self) -> dict[str, Path]:
        """Leave the open files behind."""
        return {"pool_path": self.pool_path, "tokenizer_path": self.tokenizer_path}
