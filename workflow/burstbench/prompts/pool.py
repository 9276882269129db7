"""`burstbench prompts pool`: tokenise dialogues into the prompt pool; and the pool's reader.

Files:

- ``pool.arrow``: an Arrow IPC file of one record batch, to be memory-mapped. Column ``tokens``
  (``large_list<uint16>``, ``int32`` for vocabularies above 65,536) holds the token ids of one prompt a row, that is a
  flat array of ids with int64 offsets; column ``conversation`` (int64) says which conversation of the file it is,
  from 0. Rows are in the order of the file; a row's number is the ``prompt_id``.
- ``pool_index.parquet``: contract ``pool_index``, ascending by tokens, then by prompt_id.
- ``replies.parquet``: contract ``replies``, in the order of the file.
- ``pool.json``: what went in (checksums, whether the file was cut off) and what came out (counts).

A prompt is one conversation: the token ids of its turns, each turn encoded by itself, one after the other, without
marks of begin, end or role. A request for n tokens is the first n of a conversation that has at least n.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from burstbench import contracts, files, seeds
from burstbench.errors import UserError
from burstbench.progress import progress
from burstbench.prompts.dialogues import ANSWERING, ASKING, Dialogues, Turn
from burstbench.prompts.tokenizer import Tokenizer, locate

FORMAT = (
    "token ids of a conversation's turns, each turn encoded by itself, one after the other; "
    "no marks of begin, end or role"
)
_BATCH_CHARACTERS = 1_000_000  # encoded at a time: enough for many threads, and a few MB


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    from burstbench.cli import add_settings

    add_settings(parser)
    parser.add_argument("--dialogues", type=Path, required=True, help="ShareGPT dialogues, a JSON array")
    parser.add_argument(
        "--tokenizer", required=True, help="a SentencePiece model, a tokenizer.json, or a name on the Hugging Face hub"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of the tokenizer")
    parser.add_argument("--pool", type=Path, required=True, help="pool.arrow to write")
    parser.add_argument("--index", type=Path, required=True, help="pool_index.parquet to write")
    parser.add_argument("--replies", type=Path, required=True, help="replies.parquet to write")
    parser.add_argument("--record", type=Path, required=True, help="pool.json to write")


def run(args: argparse.Namespace) -> None:
    """Make the pool and say what it holds."""
    expected = {"max_tokens", "buffer_tokens", "seed"}
    if set(args.settings) != expected:
        raise UserError(f"--settings: found {sorted(args.settings)}, expected {sorted(expected)}")
    record = make_pool(
        args.dialogues,
        locate(args.tokenizer),
        pool=args.pool,
        index=args.index,
        replies=args.replies,
        record=args.record,
        threads=args.threads,
        **args.settings,
    )
    read, made = record["dialogues"], record["pool"]
    end = " of a file that ends in the middle of one" if read["cut_off"] else ""
    print(
        f"pool: {made['prompts']:,} prompts, {made['tokens']:,} tokens, from {read['conversations']:,} whole "
        f"conversations{end}; {record['replies']['pairs']:,} replies",
        file=sys.stderr,
    )


def make_pool(
    dialogues: Path,
    tokenizer: Path,
    *,
    pool: Path,
    index: Path,
    replies: Path,
    record: Path,
    max_tokens: int,
    buffer_tokens: int,
    seed: int,
    threads: int = 1,
) -> dict[str, Any]:
    """Tokenise dialogues into the prompt pool.

    Memory is that of the pool (2 bytes a token, `buffer_tokens` at most, twice while it is written) and a few MB.

    Args:
        dialogues: ShareGPT's JSON.
        tokenizer: a SentencePiece model or a tokenizer.json.
        pool: pool.arrow to write.
        index: pool_index.parquet to write.
        replies: replies.parquet to write.
        record: pool.json to write.
        max_tokens: prompts are cut to this length [tokens].
        buffer_tokens: most tokens that the pool may hold.
        seed: root seed of the study; decides which conversations stay where not all fit (`Keep`).
        threads: threads of the tokenizer; the files do not depend on it.

    Returns:
        The record, as written.

    Raises:
        UserError: the dialogues or the tokenizer are not what they should be; a setting is out of its limits; no
            prompt has `max_tokens`.
    """
    for name, value in (("max_tokens", max_tokens), ("buffer_tokens", buffer_tokens), ("threads", threads)):
        if not isinstance(value, int) or value < 1:
            raise UserError(f"{name}: found {value!r}, expected a whole number from 1")
    if buffer_tokens < max_tokens:
        raise UserError(f"buffer_tokens: found {buffer_tokens}, expected at least max_tokens, {max_tokens}")
    source, model = Dialogues(dialogues), Tokenizer(tokenizer)
    keep = Keep(buffer_tokens, seeds.generator(seed, "prompts", "keep"))
    turns_by_role: Counter[str] = Counter()
    asked: list[int] = []
    answered: list[int] = []
    empty = cut = 0
    with progress("tokenise dialogues", dialogues.stat().st_size if dialogues.is_file() else None, "B") as report:
        for number, (turns, ids) in enumerate(_encoded(source, model, threads)):
            turns_by_role.update(turn.role for turn in turns)
            for before, after in zip(range(len(turns)), range(1, len(turns)), strict=False):
                if turns[before].role in ASKING and turns[after].role in ANSWERING:
                    request, reply = len(ids[before]), len(ids[after])
                    if request and reply:
                        asked.append(request)
                        answered.append(reply)
            whole = sum(map(len, ids))
            if whole:
                cut += whole > max_tokens
                keep.add(number, _first(ids, max_tokens))
            empty += not whole
            report(source.bytes_read)
    kept = keep.kept()
    longest = max((len(tokens) for _, tokens in kept), default=0)
    if longest < max_tokens:
        raise UserError(
            f"{dialogues}: the longest prompt of the pool has {longest} tokens, expected max_tokens = {max_tokens}: "
            "the pool could not serve such a request (lower prompts.max_tokens or give longer dialogues)"
        )
    tokens = np.array([len(ids) for _, ids in kept], dtype=np.int64)
    _write_arrow(pool, kept, model)
    order = np.lexsort((np.arange(len(tokens)), tokens))
    contracts.POOL_INDEX.write({"tokens": tokens[order], "prompt_id": order}, index)
    contracts.REPLIES.write({"request_tokens": np.array(asked, int), "reply_tokens": np.array(answered, int)}, replies)
    made = {
        "dialogues": {
            "file": dialogues.name,
            "bytes": source.bytes_read,
            "sha256": source.sha256,
            "conversations": source.conversations,
            "cut_off": source.cut_off,
            "turns": dict(turns_by_role),
            "conversations_without_text": empty,
            "conversations_above_max_tokens": cut,
        },
        "tokenizer": {
            "file": model.path.name,
            "kind": model.kind,
            "sha256": model.sha256,
            "vocabulary": model.vocabulary,
        },
        "settings": {"max_tokens": max_tokens, "buffer_tokens": buffer_tokens, "seed": seed},
        "pool": {
            "format": FORMAT,
            "prompts": len(kept),
            "tokens": int(tokens.sum()),
            "longest": longest,
            "prompts_of_max_tokens": int((tokens >= max_tokens).sum()),
            "conversations_beyond_buffer": source.conversations - empty - len(kept),
        },
        "replies": {"pairs": len(asked), "request_tokens": sum(asked), "reply_tokens": sum(answered)},
    }
    files.write_json(record, made)
    return made


class Keep:
    """Which conversations stay when not all fit: a random sample, drawn while they stream by.

    Each conversation draws a uniform priority, in the order of the file and whatever its length. The pool is the
    longest run of lowest priorities whose tokens fit the buffer: a simple random sample of the conversations, stopped
    at the first that does not fit. (To skip that one and try further would favour short ones.) A conversation once
    dropped never returns, so memory stays within the buffer.
    """

    def __init__(self, buffer_tokens: int, rng: np.random.Generator) -> None:
        self.buffer_tokens, self.rng = buffer_tokens, rng
        self.held: list[tuple[float, int, NDArray[Any]]] = []  # a heap, highest priority value first
        self.tokens = 0
        self.limit = 1.0  # priorities from here on are out

    def add(self, number: int, tokens: NDArray[Any]) -> None:
        """Offer a conversation: its number in the file and its token ids."""
        from heapq import heappop, heappush

        priority = self.rng.random()
        if priority >= self.limit:
            return
        heappush(self.held, (-priority, number, tokens))
        self.tokens += len(tokens)
        while self.tokens > self.buffer_tokens:
            negative, _, dropped = heappop(self.held)
            self.limit = -negative
            self.tokens -= len(dropped)

    def kept(self) -> list[tuple[int, NDArray[Any]]]:
        """Return what stays, as (number, token ids), in the order of the file."""
        return sorted(((number, tokens) for _, number, tokens in self.held), key=lambda pair: pair[0])


class Pool:
    """The prompts of one `pool.arrow`, memory-mapped: opening costs milliseconds, whatever its size.

    Attributes:
        path: the file.
        lengths: tokens of each prompt, shape (prompts,), int64.
        vocabulary: number of pieces of the tokenizer.
        tokenizer_sha256: its checksum.
    """

    def __init__(self, path: Path) -> None:
        """Map the file.

        Raises:
            UserError: the file is missing or no prompt pool.
        """
        self.path = Path(path)
        try:
            with pa.memory_map(str(self.path)) as source, pa.ipc.open_file(source) as reader:
                found = reader.schema.metadata or {}
                if found.get(b"contract") != b"pool":
                    raise UserError(f"{self.path}: not a prompt pool")
                batch = reader.get_batch(0)
        except FileNotFoundError as error:
            raise UserError(f"{self.path}: no such file; expected a prompt pool") from error
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{self.path}: not a prompt pool: {error}") from error
        column = batch.column("tokens")
        self._ids = column.values.to_numpy(zero_copy_only=True)
        self._offsets = column.offsets.to_numpy(zero_copy_only=True)
        self.lengths = np.diff(self._offsets)
        self.vocabulary = int(found[b"vocabulary"])
        self.tokenizer_sha256 = found[b"tokenizer_sha256"].decode()

    def __len__(self) -> int:
        """Return the number of prompts."""
        return len(self.lengths)

    def tokens(self, prompt_id: int, n: int) -> NDArray[Any]:
        """Return the first n token ids of a prompt: a view of the file, shape (n,).

        Raises:
            UserError: there is no such prompt, or it has fewer tokens.
        """
        if not 0 <= prompt_id < len(self):
            raise UserError(f"{self.path}: found no prompt {prompt_id}, expected 0 to {len(self) - 1}")
        if not 1 <= n <= self.lengths[prompt_id]:
            raise UserError(
                f"{self.path}: prompt {prompt_id} has {self.lengths[prompt_id]} tokens; {n} cannot be taken from it"
            )
        start = self._offsets[prompt_id]
        return self._ids[start : start + n]


def _encoded(source: Dialogues, model: Tokenizer, threads: int) -> Iterator[tuple[list[Turn], list[NDArray[np.int32]]]]:
    """Yield each conversation with the ids of each turn, encoding many at a time."""
    batch: list[list[Turn]] = []
    characters = 0

    def encoded() -> Iterator[tuple[list[Turn], list[NDArray[np.int32]]]]:
        ids = iter(model.encode([turn.text for turns in batch for turn in turns], threads))
        for turns in batch:
            yield turns, [next(ids) for _ in turns]

    for turns in source:
        batch.append(turns)
        characters += sum(len(turn.text) for turn in turns)
        if characters >= _BATCH_CHARACTERS:
            yield from encoded()
            batch, characters = [], 0
    yield from encoded()


def _first(ids: list[NDArray[np.int32]], n: int) -> NDArray[Any]:
    """The first n ids of a conversation, in half the memory."""
    found = np.concatenate(ids)[:n]
    return found.astype(np.uint16) if found.max() < 1 << 16 else found


def _write_arrow(path: Path, kept: list[tuple[int, NDArray[Any]]], model: Tokenizer) -> None:
    type_ = pa.uint16() if model.vocabulary <= 1 << 16 else pa.int32()
    offsets = np.concatenate([[0], np.cumsum([len(tokens) for _, tokens in kept], dtype=np.int64)])
    flat = np.concatenate([tokens for _, tokens in kept]).astype(type_.to_pandas_dtype(), copy=False)
    column = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(flat, type_))
    schema = pa.schema(
        [
            pa.field("tokens", column.type, False, {"unit": "1", "description": "token ids of the prompt"}),
            pa.field("conversation", pa.int64(), False, {"unit": "1", "description": "of the file, from 0"}),
        ],
        {"contract": "pool", "vocabulary": str(model.vocabulary), "tokenizer_sha256": model.sha256, "format": FORMAT},
    )
    batch = pa.record_batch([column, pa.array([number for number, _ in kept], pa.int64())], schema=schema)
    with files.replaced(path) as temporary, pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, schema) as w:
        w.write_batch(batch)
