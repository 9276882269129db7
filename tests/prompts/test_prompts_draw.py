"""A draw gives each prompt that is long enough, and no other, with the same chance."""

import time

import numpy as np
import pytest
from burstbench.errors import UserError
from burstbench.prompts.draw import candidates, draw
from scipy import stats

TOKENS = np.array([2, 5, 5, 9])
IDS = np.array([30, 10, 40, 20])


@pytest.mark.parametrize(
    ("length", "possible"),
    [(1, {30, 10, 40, 20}), (2, {30, 10, 40, 20}), (3, {10, 40, 20}), (5, {10, 40, 20}), (6, {20}), (9, {20})],
)
def test_exactly_those_that_are_long_enough(length, possible):
    found = draw(TOKENS, IDS, np.full(400, length), np.random.default_rng(1))
    assert set(found.tolist()) == possible
    assert candidates(TOKENS, [length]).tolist() == [len(possible)]


def test_each_with_the_same_chance():
    rng = np.random.default_rng(20240303)
    tokens = np.sort(rng.integers(1, 100, 50))
    ids = rng.permutation(50)
    found = draw(tokens, ids, np.full(50_000, tokens[10]), rng)
    able = ids[tokens >= tokens[10]]
    counts = np.bincount(found, minlength=50)
    assert counts.sum() == counts[able].sum()
    assert stats.chisquare(counts[able]).pvalue > 1e-4


def test_lengths_may_come_in_any_order_and_mix():
    rng = np.random.default_rng(7)
    tokens = np.sort(rng.integers(1, 3000, 500))
    ids = rng.permutation(500)
    lengths = rng.integers(1, tokens[-1] + 1, 20_000)
    found = draw(tokens, ids, lengths, rng)
    by_id = dict(zip(ids.tolist(), tokens.tolist(), strict=True))
    assert all(by_id[i] >= n for i, n in zip(found.tolist(), lengths.tolist(), strict=True))


def test_same_seed_same_prompts():
    lengths = np.arange(1, 10)
    first, second = (draw(TOKENS, IDS, lengths, np.random.default_rng(3)) for _ in range(2))
    assert first.tolist() == second.tolist()
    assert first.dtype == np.int64


@pytest.mark.parametrize(
    ("length", "words"), [(10, "found a length of 10 tokens, expected 1 to 9"), (0, "of 0 tokens")]
)
def test_a_length_out_of_the_pool_is_refused(length, words):
    with pytest.raises(UserError, match=f"request 2: .*{words}"):
        draw(TOKENS, IDS, [1, 9, length], np.random.default_rng(1))


def test_lengths_are_whole_numbers():
    with pytest.raises(UserError, match="float64"):
        draw(TOKENS, IDS, [1.5], np.random.default_rng(1))


def test_an_empty_pool_serves_nothing():
    with pytest.raises(UserError, match="expected 1 to 0"):
        draw(TOKENS[:0], IDS[:0], [1], np.random.default_rng(1))


def test_no_requests_no_prompts():
    assert draw(TOKENS, IDS, [], np.random.default_rng(1)).shape == (0,)


def test_a_million_draws_in_half_a_second():
    rng = np.random.default_rng(1)
    tokens, ids = np.sort(rng.integers(1, 3073, 15_000)), rng.permutation(15_000)
    lengths = rng.integers(1, tokens[-1] + 1, 1_000_000)
    started = time.process_time()
    draw(tokens, ids, lengths, rng)
    assert time.process_time() - started < 0.5
