"""The prompt pool: tokenising beside the library `tokenizers`, draws, and memory on a file of full size.

    python tests/benchmarks/bench_pool.py [--big FILE]

`tokenizers` gets a tokenizer.json made here from the same SentencePiece model; how many of the turns get the same ids
from both is printed. Both use all cores. `--big` makes FILE, 673 MB of the subset's conversations again and again, each
time with its texts begun at another place, makes a pool of it in a process of its own (with the progress that a user
sees) and prints the most memory that it held.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import sentencepiece
import tokenizers
from burstbench.prompts.dialogues import Dialogues
from burstbench.prompts.draw import draw
from burstbench.prompts.pool import make_pool
from burstbench.prompts.tokenizer import Tokenizer

RAW = Path(__file__).parents[2] / "data/raw"
DIALOGUES = RAW / "sharegpt_subset/ShareGPT_V3_unfiltered_cleaned_split.json"
MODEL = RAW / "tokenizer_mistral_v1/tokenizer.model.v1"
FULL_BYTES = 673_000_000


def fast_tokenizer() -> tokenizers.Tokenizer:
    """The same vocabulary and merges in the other library."""
    model = sentencepiece.SentencePieceProcessor(model_file=str(MODEL))
    vocabulary = {model.id_to_piece(number): number for number in range(model.vocab_size())}
    merges = []
    for piece, number in vocabulary.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in vocabulary and right in vocabulary:
                merges.append((-model.get_score(number), vocabulary[left], vocabulary[right], left, right))
    merges.sort(key=lambda merge: merge[:3])
    pairs = [merge[3:] for merge in merges]
    bpe = tokenizers.models.BPE(vocabulary, pairs, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    made = tokenizers.Tokenizer(bpe)
    normal = tokenizers.normalizers
    made.normalizer = normal.Sequence([normal.Prepend("▁"), normal.Replace(" ", "▁")])
    return made


def best(work, repeats: int = 3) -> tuple[float, object]:
    """The least seconds of some tries, and the result."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        found = work()
        times.append(time.perf_counter() - start)
    return min(times), found


def encoding(characters: int) -> None:
    """Print the ratio of throughputs."""
    texts: list[str] = []
    for turns in Dialogues(DIALOGUES):
        texts += [turn.text for turn in turns if turn.text]
        characters -= sum(len(turn.text) for turn in turns)
        if characters < 0:
            break
    ours, other = Tokenizer(MODEL), fast_tokenizer()
    cores = os.cpu_count() or 1
    mine_s, mine = best(lambda: ours.encode(texts, cores))
    other_s, found = best(lambda: other.encode_batch(texts, add_special_tokens=False))
    fast_s, _ = best(lambda: other.encode_batch_fast(texts, add_special_tokens=False))
    tokens = sum(map(len, mine))
    same = sum(one.tolist() == two.ids for one, two in zip(mine, found, strict=True))
    print(f"{len(texts):,} turns, {tokens:,} tokens, {cores} cores, load {os.getloadavg()[0]:.1f}; same ids: {same:,}")
    print(f"ours {tokens / mine_s:,.0f} tokens/s; tokenizers encode_batch {tokens / other_s:,.0f}, ratio "
          f"{other_s / mine_s:.2f}; encode_batch_fast {tokens / fast_s:,.0f}, ratio {fast_s / mine_s:.2f}")  # fmt: skip


def draws() -> None:
    """Print the time of a million draws."""
    rng = np.random.default_rng(1)
    tokens = np.sort(rng.integers(1, 6000, 100_000))
    lengths = rng.integers(1, 3072, 1_000_000)
    took, _ = best(lambda: draw(tokens, np.arange(100_000), lengths, np.random.default_rng(2)))
    print(f"1,000,000 draws from 100,000 prompts: {took:.3f} s")


def big(path: Path) -> None:
    """Make the file and a pool of it; print the memory."""
    size = copy = 0
    with open(path, "w") as stream:
        stream.write("[")
        while size < FULL_BYTES:
            for turns in Dialogues(DIALOGUES):
                said = [{"from": turn.role, "value": moved(turn.text, copy)} for turn in turns]
                text = json.dumps({"id": "x", "conversations": said})
                stream.write(("," if size else "") + text)
                size += len(text) + 1
                if size >= FULL_BYTES:
                    break
            copy += 1
        stream.write("]")
    subprocess.run([sys.executable, __file__, "--pool-of", path], check=True)


def moved(text: str, copy: int) -> str:
    """The text of one copy: begun at another word."""
    cut = text.find(" ", 37 * copy) if copy else 0
    return text[cut:] + text[:cut] if cut > 0 else text


def pool_of(path: Path) -> None:
    """Make a pool, in this process; print memory and time."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        names = [f"{folder}/{name}" for name in ("pool.arrow", "index.parquet", "replies.parquet", "pool.json")]
        files = dict(zip(("pool", "index", "replies", "record"), map(Path, names), strict=True))
        record = make_pool(path, MODEL, **files, max_tokens=3072, buffer_tokens=24_000_000, seed=1,
                           threads=os.cpu_count() or 1)  # fmt: skip
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{path.stat().st_size / 1e6:.0f} MB, {record['dialogues']['conversations']:,} conversations: "
          f"{time.perf_counter() - start:.0f} s, at most {most:.2f} GB of memory")  # fmt: skip


def main() -> None:
    """Print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--characters", type=int, default=5_000_000, help="of the turns that are encoded")
    parser.add_argument("--big", type=Path)
    parser.add_argument("--pool-of", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.pool_of:
        pool_of(args.pool_of)
        return
    encoding(args.characters)
    draws()
    if args.big:
        big(args.big)


if __name__ == "__main__":
    main()
