import json

import pytest

# Words of several scripts, so that the tokenizer has bytes without a piece of their own to fall back on.
WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "größer",
    "naïve",
    "東京",
    "Привет",
    "🙂",
    "int",
    "main(void)",
    "{",
    "return",
    "0;",
    "}",
    "\t\n",
]


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory):
    """A small SentencePiece model of the kind that Llama uses: BPE with byte fallback."""
    import sentencepiece

    folder = tmp_path_factory.mktemp("tokenizer")
    prefix = folder / "small"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(WORDS)] * 50 + ["lorem ipsum dolor sit amet"] * 50),
        model_prefix=str(prefix),
        vocab_size=400,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=0.98,
        minloglevel=2,
        num_threads=1,
    )
    return prefix.with_suffix(".model")


@pytest.fixture
def write_dialogues(tmp_path):
    """Write conversations, each a list of (role, text), as ShareGPT does; `cut` bytes of the end are left out."""

    def write(conversations, cut=0, name="dialogues.json"):
        items = [
            {"id": f"c{number}", "conversations": [{"from": role, "value": text} for role, text in turns]}
            for number, turns in enumerate(conversations)
        ]
        path = tmp_path / name
        data = json.dumps(items, indent=2, ensure_ascii=False).encode()
        path.write_bytes(data[: len(data) - cut])
        return path

    return write


@pytest.fixture
def random_dialogues():
    """Make n conversations of random turns of 1 to `most` words."""

    def make(rng, n, most=60):
        def text():
            return " ".join(rng.choice(WORDS, rng.integers(1, most + 1)))

        roles = ("human", "gpt")
        return [[(roles[k % 2], text()) for k in range(rng.integers(1, 7))] for _ in range(n)]

    return make
