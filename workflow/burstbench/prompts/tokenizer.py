"""A SentencePiece tokenizer, with its checksum."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from burstbench import files
from burstbench.errors import UserError


class Tokenizer:
    """A SentencePiece model read from a file.

    Attributes:
        path: the model file.
        sha256: its checksum.
        vocabulary: number of pieces; token ids are 0 … vocabulary - 1.
        bos: token id that begins a text.
    """

    def __init__(self, path: Path) -> None:
        """Load the model.

        Raises:
            UserError: the file is missing or no SentencePiece model.
        """
        from sentencepiece import SentencePieceProcessor

        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"{self.path}: no such file; expected a SentencePiece model")
        self.sha256 = files.sha256(self.path)
        try:
            self._processor = SentencePieceProcessor(model_file=str(self.path))
        except (RuntimeError, OSError) as error:
            raise UserError(f"{self.path}: not a SentencePiece model: {error}") from error
        self.vocabulary = int(self._processor.vocab_size())
        self.bos = int(self._processor.bos_id())

    def encode(self, texts: Sequence[str], threads: int = 1) -> list[NDArray[np.int32]]:
        """Return the token ids of each text, without marks of begin or end.

        Args:
            texts: any texts; control pieces written out in them ("</s>") are text, not control.
            threads: the library's own threads; the result does not depend on them.
        """
        return self._processor.encode(list(texts), return_type="numpy", num_threads=threads)

    def decode(self, ids: Sequence[int] | NDArray[np.integer]) -> str:
        """Return the text of token ids."""
        return self._processor.decode([int(token) for token in ids])
