"""A chat template around prompts that are sent as token ids, so that their lengths stay exact."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from burstbench.errors import UserError
from burstbench.prompts.pool import Pool
from burstbench.prompts.tokenizer import Tokenizer


class TemplateError(UserError):
    """The template cannot be applied."""


@dataclass(frozen=True)
class Template:
    """What stands before and after every prompt.

    A request's planned length holds for the whole prompt: the template takes its tokens from it. At least one token of
    the dialogue is always sent, so that a request planned shorter than that is lengthened.

    Attributes:
        before, after: token ids; none for no template.
    """

    before: NDArray[np.int64]
    after: NDArray[np.int64]

    @classmethod
    def of(cls, settings: Mapping[str, Any] | None, pool: Pool, tokenizer: Path | None) -> "Template":
        """Encode the template.

        Args:
            settings: before and after (texts), bos (whether the token that begins a text comes first); None for none.
            pool: the prompts it goes around.
            tokenizer: theirs.

        Raises:
            UserError: the tokenizer is missing or not the pool's.
        """
        if settings is None:
            return cls(np.empty(0, np.int64), np.empty(0, np.int64))
        if tokenizer is None:
            raise TemplateError("chat_template: give --tokenizer, the one of the prompts")
        model = Tokenizer(tokenizer)
        if model.sha256 != (expected := pool.tokenizer_sha256):
            raise TemplateError(f"{tokenizer}: sha256: found {model.sha256}, expected {expected}, the pool's")
        before, after = model.encode([settings["before"], settings["after"]])
        first = [model.bos] if settings["bos"] else []
        return cls(np.array([*first, *before], np.int64), after.astype(np.int64))

    @property
    def tokens(self) -> int:
        """Tokens of the template alone."""
        return len(self.before) + len(self.after)

    def lengths(self, planned: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the tokens of each prompt as it is sent, from those planned, shape (n,)."""
        return np.maximum(planned, self.tokens + 1) if self.tokens else planned

    def around(self, pool: Pool, prompt_id: int, n: int) -> NDArray[Any]:
        """Return a prompt of n tokens with the template, shape (n,)."""
        if not self.tokens:
            return pool.tokens(prompt_id, n)
        return np.concatenate([self.before, pool.tokens(prompt_id, n - self.tokens), self.after])
