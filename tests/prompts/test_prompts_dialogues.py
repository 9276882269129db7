"""Dialogues are read one by one; a file that was cut off gives its whole ones, a broken file is refused."""

import hashlib
import json
import tracemalloc

import pytest
from burstbench.errors import UserError
from burstbench.prompts import dialogues
from burstbench.prompts.dialogues import Dialogues, Turn

# An emoji of four bytes, an escaped one of twelve, an escaped quote, and text that looks like the file's own marks.
TEXTS = ["é 😀", "\\ud83d\\ude00 \\u00e9", 'say \\"}]\\"', "]}, {"]
FILE = (
    "[" + ", ".join(f'{{"id": "c", "conversations": [{{"from": "human", "value": "{text}"}}]}}' for text in TEXTS) + "]"
).encode()
ENDS = [FILE.index(b"}]}", FILE.index(f'"value": "{text}"'.encode())) + 3 for text in TEXTS]


def read(tmp_path, data):
    path = tmp_path / "dialogues.json"
    path.write_bytes(data)
    source = Dialogues(path)
    return list(source), source


@pytest.mark.parametrize("piece_bytes", [1, 7, 1 << 18])
def test_all_turns_in_order(tmp_path, monkeypatch, piece_bytes):
    monkeypatch.setattr(dialogues, "_PIECE_BYTES", piece_bytes)
    found, source = read(tmp_path, FILE)
    assert found == [[Turn("human", text)] for text in ["é 😀", "😀 é", 'say "}]"', "]}, {"]]
    assert (source.conversations, source.cut_off, source.bytes_read) == (4, False, len(FILE))
    assert source.sha256 == hashlib.sha256(FILE).hexdigest()


@pytest.mark.parametrize("piece_bytes", [5, 1 << 18])
def test_a_cut_at_every_byte_gives_the_whole_conversations_before_it(tmp_path, monkeypatch, piece_bytes):
    monkeypatch.setattr(dialogues, "_PIECE_BYTES", piece_bytes)
    for length in range(ENDS[0], len(FILE)):
        found, source = read(tmp_path, FILE[:length])
        assert len(found) == sum(end <= length for end in ENDS), length
        assert source.cut_off
        assert source.sha256 == hashlib.sha256(FILE[:length]).hexdigest()


def test_a_cut_before_the_first_end_gives_nothing(tmp_path):
    with pytest.raises(UserError, match="without one whole conversation"):
        read(tmp_path, FILE[: ENDS[0] - 1])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"<!DOCTYPE html><html></html>",
        b'{"conversations": []}',
        FILE.decode().encode("utf-16"),
        FILE[: ENDS[1]] + b"\0" * 100,  # a download whose end was reserved and never written
        FILE[: ENDS[1]] + b" , ,",
        FILE + b"[",
        FILE.replace("é".encode(), b"\xff", 1),
        FILE[: ENDS[0]] + FILE[ENDS[0] + 1 :],  # a comma is missing
    ],
    ids=["empty", "no rows", "web page", "object", "UTF-16", "NUL", "comma", "trailing", "not UTF-8", "no comma"],
)
def test_what_is_no_array_of_conversations_is_refused(tmp_path, data):
    with pytest.raises(UserError, match=r"dialogues\.json: not a JSON array of conversations"):
        read(tmp_path, data)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (7, "conversation 1 (from 0): found '7'"),
        ({"id": "x"}, "conversation 1 (from 0)"),
        ({"id": "x", "conversations": "hello"}, "a list 'conversations'"),
        ({"id": "x", "conversations": [{"from": "human", "value": "a"}, {"from": "gpt"}]}, "id 'x'), turn 1"),
        ({"id": "x", "conversations": [{"from": "human", "value": None}]}, "turn 0"),
        ({"id": "x", "conversations": ["hi"]}, "turn 0: found 'hi'"),
    ],
)
def test_a_conversation_without_its_turns_is_named(tmp_path, item, words):
    with pytest.raises(UserError) as caught:
        read(tmp_path, json.dumps([{"id": "a", "conversations": []}, item]).encode())
    assert words in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        list(Dialogues(tmp_path / "none.json"))


def test_memory_does_not_grow_with_the_file(tmp_path):
    one = json.dumps({"id": "a", "conversations": [{"from": "human", "value": "x" * 10_000}]})
    path = tmp_path / "large.json"
    path.write_text("[" + ",".join([one] * 4000) + "]")  # 40 MB
    tracemalloc.start()
    count = sum(1 for _ in Dialogues(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 4000
    assert peak < 4e6
