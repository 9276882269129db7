"""Tokenizers with their checksums: a SentencePiece model, or a `tokenizer.json` of Hugging Face.

The latter is read by the library `tokenizers`, which is no dependency of the pipeline: `pip install tokenizers`. A name
on the Hugging Face hub ("owner/model", "owner/model@revision") stands for the `tokenizer.json` of that repository.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from burstbench import files
from burstbench.errors import UserError

_NAME = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def locate(tokenizer: str | Path) -> Path:
    """Return the file of a tokenizer: the file itself, or the one that a name on the hub stands for, downloaded.

    Raises:
        UserError: it is neither a file nor a name, or cannot be downloaded.
    """
    path = Path(tokenizer)
    named = _NAME.fullmatch(str(tokenizer))
    if path.is_file() or not named or path.suffix in {".json", ".model"}:
        return path
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise UserError(f"{tokenizer}: a name on the Hugging Face hub needs `pip install tokenizers`") from error
    try:
        return Path(hf_hub_download(named["repository"], "tokenizer.json", revision=named["revision"]))
    except Exception as error:  # the library's own kinds, of requests, files and values
        raise UserError(f"{tokenizer}: found neither a file nor a tokenizer.json on the hub: {error}") from error


class Tokenizer:
    """A tokenizer read from a file.

    Attributes:
        path: the file.
        kind: "sentencepiece" or "tokenizer.json".
        sha256: its checksum.
        vocabulary: number of pieces; token ids are 0 … vocabulary - 1.
        bos: token id that begins a text.
    """

    def __init__(self, path: Path) -> None:
        """Load the model.

        Raises:
            UserError: the file is missing or no tokenizer.
        """
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"{self.path}: no such file; expected a SentencePiece model or a tokenizer.json")
        self.sha256 = files.sha256(self.path)
        self._fast: Any = None
        self.kind = "tokenizer.json" if self.path.suffix == ".json" else "sentencepiece"
        if self.kind == "tokenizer.json":
            self._fast = _fast(self.path)
            self.vocabulary = int(self._fast.get_vocab_size(with_added_tokens=True))
            return
        from sentencepiece import SentencePieceProcessor

        try:
            self._processor = SentencePieceProcessor(model_file=str(self.path))
        except (RuntimeError, OSError) as error:
            raise UserError(f"{self.path}: not a SentencePiece model: {error}") from error
        self.vocabulary = int(self._processor.vocab_size())
        self.bos = int(self._processor.bos_id())

    def encode(self, texts: Sequence[str], threads: int = 1) -> list[NDArray[np.int32]]:
        """Return the token ids of each text, without marks of begin or end.

        Args:
            texts: any texts; control pieces written out in them ("</s>") are text, not control, for SentencePiece;
                for a tokenizer.json as it says.
            threads: the library's own threads; the result does not depend on them. (`tokenizers` takes all cores.)
        """
        if self._fast is not None:
            found = self._fast.encode_batch_fast(list(texts), add_special_tokens=False)
            return [np.array(one.ids, np.int32) for one in found]
        return self._processor.encode(list(texts), return_type="numpy", num_threads=threads)

    def decode(self, ids: Sequence[int] | NDArray[np.integer]) -> str:
        """Return the text of token ids."""
        if self._fast is not None:
            return str(self._fast.decode([int(token) for token in ids], skip_special_tokens=False))
        return self._processor.decode([int(token) for token in ids])


def _fast(path: Path) -> Any:
    """The tokenizer of a tokenizer.json."""
    try:
        from tokenizers import Tokenizer as Fast
    except ImportError as error:
        raise UserError(f"{path}: to read a tokenizer.json, `pip install tokenizers`") from error
    try:
        return Fast.from_file(str(path))
    except Exception as error:  # the library raises nothing more special
        raise UserError(f"{path}: not a tokenizer.json: {error}") from error
