"""Mirrored streams on profiles made by hand."""

import numpy as np
import pyarrow as pa
import pytest
from burstbench.plan import mirror
from burstbench.plan.checks import PlanError

SETTING = {"service": "api", "model": "ChatGPT", "compressed_s": 60, "scaled_to": "conversation"}


def profile(**streams):
    """A profile of windows of 1200 s: for each service rows of (rate, alpha, scale)."""
    rows = [
        {
            "service": service,
            "model": "ChatGPT",
            "window_s": 1200.0 * place,
            "width_s": 1200.0,
            "rate_per_s": rate,
            "alpha": alpha,
            "beta_scale_s": scale,
        }
        for service, windows in streams.items()
        for place, (rate, alpha, scale) in enumerate(windows)
    ]
    schema = pa.schema(
        [
            (name, pa.string() if name in {"service", "model"} else pa.float64())
            for name in ("service", "model", "window_s", "width_s", "rate_per_s", "alpha", "beta_scale_s")
        ]
    )
    return pa.Table.from_pylist(rows[::-1], schema)  # the order of the file plays no part


CONVERSATION = [(0.01, 0.5, 190.0), (0.03, 0.5, 70.0)]
API = [(0.2, 0.25, 18.0), (0.6, 0.1, 20.0)]


def test_both_streams_share_the_factor_of_the_reference():
    # The conversation's mean rate is 0.02 /s; a warm-up of 1 request/s makes the factor 50.
    table = profile(conversation=CONVERSATION, api=API)
    api = mirror.windows(table, SETTING, 1.0, "phases[1].mirror")
    assert api.record["rate_factor"] == pytest.approx(50)
    assert api.alpha.tolist() == [0.25, 0.1]
    assert 1 / (api.alpha * api.scale) == pytest.approx([10, 30])
    assert api.seconds == 60
    conversation = mirror.windows(table, {**SETTING, "service": "conversation"}, 1.0, "phases[1].mirror")
    assert 1 / (conversation.alpha * conversation.scale) == pytest.approx([0.5, 1.5])
    # Twice the warm-up rate sends everything twice as fast, with the same shapes.
    twice = mirror.windows(table, SETTING, 2.0, "phases[1].mirror")
    assert twice.scale * 2 == pytest.approx(api.scale)


def test_fitted_scales_share_one_factor_too():
    # Rates of the fits: 1 / (0.5 * 200) = 0.01 and 1 / (0.5 * 50) = 0.04, mean 0.025; a warm-up of 2/s: factor 80.
    table = profile(conversation=[(9, 0.5, 200.0), (9, 0.5, 50.0)], api=API)
    got = mirror.windows(table, {**SETTING, "kind": "scale"}, 2.0, "m")
    assert got.record["rate_factor"] == pytest.approx(80)
    assert got.scale == pytest.approx([18 / 80, 20 / 80])
    assert got.alpha.tolist() == [0.25, 0.1]


def test_windows_without_a_fit_take_the_nearest_and_are_counted():
    windows = [(1.0, None, None), (1.0, 0.2, 5.0), (2.0, None, None), (4.0, 0.8, 1.0), (0.0, None, None)]
    got = mirror.windows(profile(conversation=windows), {**SETTING, "service": "conversation"}, 1.6, "m")
    assert got.alpha.tolist() == [0.2, 0.2, 0.2, 0.8, 0.8]  # the third lies between two: the earlier
    assert got.record["windows_without_fit"] == 3
    assert got.record["windows_silent"] == 1
    assert got.record["rate_factor"] == pytest.approx(1.0)  # the mean of 1, 1, 2, 4, 0 is 1.6
    assert np.isinf(got.scale[4])
    assert 1 / (got.alpha * got.scale)[:4] == pytest.approx([1, 1, 2, 4])


@pytest.mark.parametrize(
    ("table", "setting", "named"),
    [
        (profile(conversation=CONVERSATION), {}, "m.service: 'api ChatGPT' is not in gamma_profile, which holds: conv"),
        (profile(api=API), {}, "m.scaled_to: 'conversation ChatGPT' is not in"),
        (profile(api=API, conversation=CONVERSATION), {"model": "GPT-4"}, "m.service: 'api GPT-4' is not in"),
        (
            profile(api=API, conversation=CONVERSATION[:1]),
            {},
            "m.scaled_to: its windows in gamma_profile are not those",
        ),
        (profile(api=[(1, None, None)] * 2, conversation=CONVERSATION), {}, "m.service: no window of it has a fit"),
        (profile(api=API, conversation=[(0, None, None)] * 2), {}, "m.scaled_to: 'conversation' has no requests"),
        (profile(api=API, conversation=CONVERSATION).slice(1), {}, "m.scaled_to: its windows"),
    ],
)
def test_wrong_profiles_are_refused(table, setting, named):
    with pytest.raises(PlanError) as caught:
        mirror.windows(table, {**SETTING, **setting}, 1.0, "m")
    assert named in str(caught.value)


def test_a_hole_in_the_day_is_refused():
    table = profile(api=[*API, *API], conversation=CONVERSATION)
    rows = [row for row in table.to_pylist() if row["window_s"] != 1200.0 or row["service"] != "api"]
    with pytest.raises(PlanError, match=r"not of one width.*starts at 2400 s"):
        mirror.windows(pa.Table.from_pylist(rows, table.schema), SETTING, 1.0, "m")
