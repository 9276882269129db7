"""Response lengths: which replies are near, and what the draws look like."""

import numpy as np
import pytest
from burstbench.serve.responses import NEIGHBOURS, ResponseModelError, draw, nearest


def rng():
    return np.random.default_rng(1)


def test_nearest_by_hand():
    lengths = np.array([1, 2, 4, 8, 16, 64])
    # Ratios count: of two lengths near 9, 8 and 16 (1.125 and 1.78, against 2.25 for 4); near 1 the two smallest.
    first, count = nearest(lengths, np.array([9, 1, 1000, 64]), 2)
    assert first.tolist() == [3, 0, 4, 4]
    assert count.tolist() == [2, 2, 2, 2]


def test_equal_lengths_belong_together():
    lengths = np.array([1, 5, 5, 5, 5, 9])
    first, count = nearest(lengths, np.array([5]), 2)
    assert (first.tolist(), count.tolist()) == ([1], [4])


def test_fewer_lengths_than_neighbours():
    first, count = nearest(np.array([3, 7]), np.array([1, 100]), 10)
    assert (first.tolist(), count.tolist()) == ([0, 0], [2, 2])


def test_nearest_against_brute_force():
    random = np.random.default_rng()
    for _ in range(50):
        lengths = np.sort(np.unique(random.integers(1, 3000, 60)))
        wanted = random.integers(1, 4000, 30)
        near = int(random.integers(1, lengths.size + 1))
        first, count = nearest(lengths, wanted, near)
        assert (count == near).all()
        for begin, number in zip(first, wanted, strict=True):
            ratio = np.abs(np.log(lengths) - np.log(number))
            assert ratio[begin : begin + near].sum() == pytest.approx(np.sort(ratio)[:near].sum(), abs=1e-9)


def test_empirical_follows_the_request():
    random = np.random.default_rng(5)
    request = random.integers(1, 2000, 40_000)
    reply = request * 3 + random.integers(0, 5, 40_000)
    prompts = np.repeat([10, 200, 1500], 500)
    drawn = draw({"kind": "empirical"}, prompts, request, reply, rng())
    for prompt in (10, 200, 1500):
        found = drawn[prompts == prompt]
        width = NEIGHBOURS / 40_000 * 2000
        assert np.abs(found / 3 - prompt).max() < 2 * width
        assert np.unique(found).size > 5


def test_every_near_reply_is_as_likely():
    request, reply = np.full(4, 7), np.array([10, 20, 30, 40])
    drawn = draw({"kind": "empirical"}, np.full(40_000, 7), request, reply, rng())
    counts = np.unique(drawn, return_counts=True)[1]
    assert counts == pytest.approx(np.full(4, 10_000), abs=500)


def test_the_order_of_the_file_is_of_no_matter_for_distinct_requests():
    request, reply = np.arange(1, 300), np.arange(1001, 1300)
    order = np.random.default_rng(3).permutation(299)
    prompts = np.arange(1, 400)
    one = draw({"kind": "empirical"}, prompts, request, reply, rng())
    assert (one == draw({"kind": "empirical"}, prompts, request[order], reply[order], rng())).all()


def test_lognormal():
    none = np.array([], dtype=np.int64)
    drawn = draw({"kind": "lognormal", "median": 200, "sigma": 0.8}, np.ones(100_000, np.int64), none, none, rng())
    assert np.median(drawn) == pytest.approx(200, rel=0.02)
    assert np.log(drawn).std() == pytest.approx(0.8, rel=0.02)
    assert draw({"kind": "lognormal", "median": 0.01, "sigma": 0.1}, np.ones(5, np.int64), none, none, rng()).min() == 1


def test_constant():
    none = np.array([], dtype=np.int64)
    assert draw({"kind": "constant", "tokens": 7}, np.ones(3, np.int64), none, none, rng()).tolist() == [7, 7, 7]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "found None, expected one of empirical"),
        ({"kind": "normal"}, "found 'normal'"),
        ({"kind": "empirical", "median": 3}, "unknown key 'median' for empirical"),
        ({"kind": "lognormal", "median": 3}, "sigma: found None, expected a positive number"),
        ({"kind": "constant", "tokens": 0}, "tokens: found 0"),
        ({"kind": "constant", "tokens": float("nan")}, "tokens: found nan"),
        ({"kind": "empirical"}, "table of replies is empty"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    none = np.array([], dtype=np.int64)
    with pytest.raises(ResponseModelError, match=message):
        draw(settings, np.ones(3, np.int64), none, none, rng())
