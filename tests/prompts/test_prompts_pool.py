"""The pool holds real dialogues to the token, within its limits, and says what it was made from."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sentencepiece
from burstbench import contracts, files
from burstbench.errors import UserError
from burstbench.prompts.draw import draw
from burstbench.prompts.pool import Keep, Pool, make_pool
from burstbench.prompts.tokenizer import Tokenizer

NAMES = {"pool": "pool.arrow", "index": "pool_index.parquet", "replies": "replies.parquet", "record": "pool.json"}


@pytest.fixture
def make(tmp_path, tokenizer_file):
    """Make a pool and return its folder and record."""

    def made(dialogues, folder="out", max_tokens=20, buffer_tokens=1_000_000, seed=1, threads=1, tokenizer=None):
        outputs = {name: tmp_path / folder / file for name, file in NAMES.items()}
        record = make_pool(
            dialogues,
            tokenizer or tokenizer_file,
            **outputs,
            max_tokens=max_tokens,
            buffer_tokens=buffer_tokens,
            seed=seed,
            threads=threads,
        )
        return tmp_path / folder, record

    return made


def test_three_conversations_by_hand(make, write_dialogues, tokenizer_file):
    encode = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer_file)).encode
    turns = ["the quick brown fox", "lorem ipsum dolor sit amet", "a lazy dog 🙂", "東京", "return 0;"]
    ids = [encode(turn) for turn in turns]
    file = write_dialogues(
        [
            [("human", turns[0]), ("gpt", turns[1])],
            [("human", "")],  # no text: no prompt
            [("system", turns[2]), ("human", turns[3]), ("gpt", turns[4]), ("gpt", turns[0]), ("human", turns[1])],
        ]
    )
    folder, record = make(file, max_tokens=8)
    pool = Pool(folder / "pool.arrow")
    assert len(pool) == 2
    assert pool.tokens(0, 8).tolist() == (ids[0] + ids[1])[:8]
    assert pool.tokens(1, 7).tolist() == (ids[2] + ids[3] + ids[4])[:7]
    assert pool.tokens(1, 7).dtype == np.uint16
    assert pool.lengths.tolist() == [8, 8]
    with pa.memory_map(str(folder / "pool.arrow")) as source:
        assert pa.ipc.open_file(source).read_all().column("conversation").to_pylist() == [0, 2]
    # Who asks and is answered in the next turn: two pairs, the second answer to one question is none.
    replies = contracts.REPLIES.read(folder / "replies.parquet").to_pydict()
    assert replies == {
        "request_tokens": [len(ids[0]), len(ids[3])],
        "reply_tokens": [len(ids[1]), len(ids[4])],
    }
    assert record["dialogues"]["turns"] == {"human": 4, "gpt": 3, "system": 1}
    assert record["dialogues"]["conversations"] == 3
    assert record["dialogues"]["conversations_without_text"] == 1
    assert record["dialogues"]["cut_off"] is False
    assert record["replies"]["pairs"] == 2


def test_the_record_names_its_inputs(make, write_dialogues, random_dialogues, tokenizer_file):
    file = write_dialogues(random_dialogues(np.random.default_rng(1), 30))
    folder, record = make(file)
    assert record == json.loads((folder / "pool.json").read_text())
    assert record["dialogues"]["sha256"] == files.sha256(file)
    assert record["tokenizer"]["sha256"] == files.sha256(tokenizer_file)
    assert Pool(folder / "pool.arrow").tokenizer_sha256 == files.sha256(tokenizer_file)
    assert record["settings"] == {"max_tokens": 20, "buffer_tokens": 1_000_000, "seed": 1}


def test_every_prompt_is_a_dialogues_beginning(make, write_dialogues, random_dialogues, tokenizer_file):
    conversations = random_dialogues(np.random.default_rng(2), 200)
    folder, record = make(write_dialogues(conversations), max_tokens=150)
    encode = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer_file)).encode
    wanted = [[token for _, text in turns for token in encode(text)] for turns in conversations]
    wanted = [ids for ids in wanted if ids]
    pool = Pool(folder / "pool.arrow")
    assert [pool.tokens(k, n).tolist() for k, n in enumerate(pool.lengths)] == [ids[:150] for ids in wanted]
    index = contracts.POOL_INDEX.read(folder / "pool_index.parquet").to_pydict()
    assert list(zip(index["tokens"], index["prompt_id"], strict=True)) == sorted(
        (min(len(ids), 150), k) for k, ids in enumerate(wanted)
    )
    assert record["pool"]["tokens"] == sum(min(len(ids), 150) for ids in wanted)
    assert record["dialogues"]["conversations_above_max_tokens"] == sum(len(ids) > 150 for ids in wanted)
    assert record["pool"]["prompts_of_max_tokens"] == sum(len(ids) >= 150 for ids in wanted)


def test_each_planned_length_is_served_exactly(make, write_dialogues, random_dialogues):
    rng = np.random.default_rng(3)
    folder, _ = make(write_dialogues(random_dialogues(rng, 100)), max_tokens=100)
    pool = Pool(folder / "pool.arrow")
    index = pq.read_table(folder / "pool_index.parquet")
    lengths = rng.integers(1, 101, 500)
    chosen = draw(index["tokens"].to_numpy(), index["prompt_id"].to_numpy(), lengths, rng)
    assert [len(pool.tokens(k, n)) for k, n in zip(chosen, lengths, strict=True)] == lengths.tolist()


def test_a_cut_off_file_gives_its_whole_conversations(make, write_dialogues, random_dialogues):
    conversations = random_dialogues(np.random.default_rng(4), 40)
    whole, _ = make(write_dialogues(conversations[:-1], name="whole.json"), folder="whole")
    cut, record = make(write_dialogues(conversations, cut=20, name="cut.json"), folder="cut")
    assert record["dialogues"]["cut_off"] is True
    assert record["dialogues"]["conversations"] == 39
    assert (cut / "pool.arrow").read_bytes() == (whole / "pool.arrow").read_bytes()


def test_same_inputs_same_bytes_with_any_number_of_threads(make, write_dialogues, random_dialogues, monkeypatch):
    file = write_dialogues(random_dialogues(np.random.default_rng(5), 200))
    first, _ = make(file, folder="first", buffer_tokens=3000)
    monkeypatch.setattr("burstbench.prompts.pool._BATCH_CHARACTERS", 700)
    second, _ = make(file, folder="second", buffer_tokens=3000, threads=3)
    for name in NAMES.values():
        assert (first / name).read_bytes() == (second / name).read_bytes()
    other, _ = make(file, folder="other", buffer_tokens=3000, seed=2)
    assert (first / "pool.arrow").read_bytes() != (other / "pool.arrow").read_bytes()


def test_the_buffer_is_kept_and_the_replies_are_those_of_all(make, write_dialogues, random_dialogues):
    file = write_dialogues(random_dialogues(np.random.default_rng(6), 200))
    _, all_of_them = make(file, folder="all")
    folder, record = make(file, folder="some", buffer_tokens=1000)
    assert 1000 - 20 < record["pool"]["tokens"] <= 1000  # the first that did not fit had 20 tokens at most
    assert Pool(folder / "pool.arrow").lengths.sum() == record["pool"]["tokens"]
    read = record["dialogues"]
    beyond = record["pool"]["conversations_beyond_buffer"]
    assert record["pool"]["prompts"] + beyond + read["conversations_without_text"] == 200
    assert record["replies"] == all_of_them["replies"]


class Priorities:
    """Stands in for a generator: gives known priorities."""

    def __init__(self, values):
        self.values = iter(values)

    def random(self):
        return next(self.values)


def test_which_conversations_stay_is_the_lowest_priorities_up_to_the_first_that_does_not_fit():
    rng = np.random.default_rng(7)
    for _ in range(300):
        lengths = rng.integers(1, 40, rng.integers(1, 30))
        priorities = rng.random(len(lengths))
        buffer = int(rng.integers(1, 400))
        keep = Keep(buffer, Priorities(priorities))
        for number, length in enumerate(lengths):
            keep.add(number, np.zeros(length, np.uint16))
        # All at once, as the rule says it.
        order = np.argsort(priorities)
        fitting = np.cumsum(lengths[order]) <= buffer
        wanted = sorted(order[: fitting.argmin() if not fitting.all() else len(order)].tolist())
        assert [number for number, _ in keep.kept()] == wanted


def test_keeping_favours_neither_short_nor_early_ones():
    lengths = np.tile([5, 50], 200)
    counts = np.zeros(400)
    for seed in range(300):
        keep = Keep(4000, np.random.default_rng(seed))
        for number, length in enumerate(lengths):
            keep.add(number, np.zeros(length, np.uint16))
        counts[[number for number, _ in keep.kept()]] += 1
    share = counts / 300
    assert share[::2].mean() == pytest.approx(share[1::2].mean(), abs=0.02)  # short against long
    assert share[:200].mean() == pytest.approx(share[200:].mean(), abs=0.02)  # early against late


def test_a_pool_too_short_for_max_tokens_is_refused(make, write_dialogues, tmp_path):
    with pytest.raises(UserError, match="longest prompt of the pool has 3 tokens, expected max_tokens = 20"):
        make(write_dialogues([[("human", "the quick brown")]]))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_tokens": 0}, "max_tokens: found 0"),
        ({"max_tokens": 2.5}, "max_tokens: found 2.5"),
        ({"buffer_tokens": 10}, "buffer_tokens: found 10, expected at least max_tokens, 20"),
        ({"threads": 0}, "threads: found 0"),
    ],
)
def test_impossible_settings_are_refused(make, write_dialogues, options, words):
    with pytest.raises(UserError, match=words):
        make(write_dialogues([[("human", "the")]]), **options)


def test_no_tokenizer(make, write_dialogues, tmp_path):
    file = write_dialogues([[("human", "the")]])
    broken = tmp_path / "broken.model"
    broken.write_text("no model")
    with pytest.raises(UserError, match="not a SentencePiece model"):
        make(file, tokenizer=broken)
    with pytest.raises(UserError, match=r"no such file; expected a SentencePiece model or a tokenizer\.json"):
        make(file, tokenizer=tmp_path / "none.model")


def test_text_that_looks_like_a_control_mark_is_text(tokenizer_file):
    model = Tokenizer(tokenizer_file)
    (ids,) = model.encode(["</s><s>"])
    assert min(ids) > 2
    assert model.decode(ids) == "</s><s>"


def test_the_reader_refuses_what_is_not_there(make, write_dialogues, random_dialogues, tmp_path):
    folder, _ = make(write_dialogues(random_dialogues(np.random.default_rng(8), 30)))
    pool = Pool(folder / "pool.arrow")
    for prompt, n in ((-1, 1), (len(pool), 1), (0, 0), (0, int(pool.lengths[0]) + 1)):
        with pytest.raises(UserError, match=r"pool\.arrow"):
            pool.tokens(prompt, n)
    for name in ("pool_index.parquet", "pool.json", "none"):
        with pytest.raises(UserError, match=name):
            Pool(folder / name)
    table = pa.table({"tokens": [1]})
    with pa.OSFile(str(tmp_path / "other.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(UserError, match="not a prompt pool"):
        Pool(tmp_path / "other.arrow")


def test_the_reader_maps_the_file_and_outlives_it(make, write_dialogues, random_dialogues):
    folder, _ = make(write_dialogues(random_dialogues(np.random.default_rng(9), 30)))
    before = pa.total_allocated_bytes()
    pool = Pool(folder / "pool.arrow")
    first = pool.tokens(0, 3).tolist()
    assert pa.total_allocated_bytes() - before < 10_000
    shutil.rmtree(folder)
    assert pool.tokens(0, 3).tolist() == first


def test_the_command_line(write_dialogues, random_dialogues, tokenizer_file, tmp_path):
    file = write_dialogues(random_dialogues(np.random.default_rng(10), 30), cut=3)
    outputs = [part for name in NAMES for part in (f"--{name}", str(tmp_path / NAMES[name]))]

    def call(settings):
        line = [sys.executable, "-m", "burstbench", "prompts", "pool", "--settings", json.dumps(settings)]
        line += ["--dialogues", str(file), "--tokenizer", str(tokenizer_file), "--threads", "2", *outputs]
        return subprocess.run(line, check=False, capture_output=True, text=True)

    settings = {"max_tokens": 20, "buffer_tokens": 5000, "seed": 1}
    done = call(settings)
    assert done.returncode == 0, done.stderr
    assert "from 29 whole conversations of a file that ends in the middle of one" in done.stderr
    assert len(Pool(tmp_path / "pool.arrow")) > 20
    done = call(settings | {"colour": 1})
    assert done.returncode == 2
    assert "colour" in done.stderr
