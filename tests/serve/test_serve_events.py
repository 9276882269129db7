"""The parser of server-sent events: the same events, whatever the pieces."""

import time

import numpy as np
import pytest
from burstbench.serve.events import Events, MalformedStreamError

STREAM = (
    b'data: {"a": 1}\n\n'
    b": a comment\n\n"
    b"event: thing\ndata: two\ndata:  lines\nid: 7\n\n"
    b"data:no blank\r\n\r\n"
    b"data: only cr\r\r"
    b"data\n\n"
    b"data: [DONE]\n\n"
)
EXPECTED = [b'{"a": 1}', b"two\n lines", b"no blank", b"only cr", b"", b"[DONE]"]


def parse(pieces):
    events = Events()
    found = [data for piece in pieces for data in events.feed(piece)]
    return found, events.rest


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_pieces_of_one_size(size):
    assert parse([STREAM[k : k + size] for k in range(0, len(STREAM), size)]) == (EXPECTED, False)


def test_random_pieces():
    rng = np.random.default_rng()
    for _ in range(300):
        cuts = np.sort(rng.integers(0, len(STREAM), rng.integers(1, 12)))
        pieces = [STREAM[a:b] for a, b in zip([0, *cuts], [*cuts, len(STREAM)], strict=True)]
        assert parse(pieces) == (EXPECTED, False), cuts


def test_the_usual_pieces():
    assert parse([b"data: a\n\n", b"data: b\n\ndata: c\n\n", b"data: d\ndata: e\n\n"]) == (
        [b"a", b"b", b"c", b"d\ne"],
        False,
    )


@pytest.mark.parametrize("cut", range(1, len(b"data: a\n\n")))
def test_an_event_that_is_not_whole(cut):
    assert parse([b"data: a\n\n"[:cut]]) == ([], True)


@pytest.mark.parametrize("bad", [b"<html>\n\n", b'{"error": 1}\n', b"datas: 1\n\n"])
def test_a_line_that_is_no_field(bad):
    with pytest.raises(MalformedStreamError, match="not a field"):
        parse([b"data: a\n\n", bad])


def test_too_long(monkeypatch):
    monkeypatch.setattr("burstbench.serve.events.LIMIT_BYTES", 1000)
    with pytest.raises(MalformedStreamError, match="an event of more than"):
        parse([b"data: " + b"x" * 600, b"y" * 600])


def test_work_is_linear_in_the_pieces_of_a_long_event():
    def seconds(pieces):
        events, began = Events(), time.process_time()
        for _ in range(pieces):
            events.feed(b"x" * 100)
        return time.process_time() - began

    seconds(1000)
    assert seconds(40_000) < 40 * max(seconds(10_000), 0.001)  # quadratic work would take far longer
