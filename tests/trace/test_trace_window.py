"""A window of a trace: what is kept, and what is said of it."""

import json

import numpy as np
import pyarrow as pa
import pytest
from burstbench.cli import main
from burstbench.contracts import TRACE, TRACE_WINDOW
from burstbench.errors import UserError
from burstbench.trace.window import Window, select

DAY = 86_400
HEADER = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"


def trace(per_day):
    """A request every so often on each day, all alike: 10 request tokens, 5 response tokens."""
    time_s = np.concatenate([day * DAY + np.arange(n, dtype=float) for day, n in enumerate(per_day)])
    n = len(time_s)
    return TRACE.validate(
        pa.table(
            {
                "time_s": time_s,
                "service": ["api"] * n,
                "model": ["GPT-4"] * n,
                "request_tokens": [10] * n,
                "response_tokens": [5] * n,
                "failed": [False] * n,
                "session_id": pa.nulls(n, pa.string()),
                "elapsed_s": pa.nulls(n, pa.float64()),
            }
        ),
        "test",
    )


def test_the_window_starts_at_its_first_day_and_counts_by_hand():
    kept, record = select(trace([1, 2, 20, 17]), 4, Window(3, 4))
    assert kept.num_rows == 37
    assert kept["time_s"][0].as_py() == 0
    assert kept["time_s"][20].as_py() == DAY
    TRACE.validate(kept, "kept")
    rows = {(r["service"], r["model"], r["quantity"]): r for r in record.to_pylist()}
    row = rows["api", "GPT-4", "requests_per_day"]
    assert (row["whole"], row["window"], row["ratio"], row["unlike"]) == (10, 18.5, 1.85, True)
    same = rows["all", "all", "request_tokens_mean"]
    assert (same["whole"], same["window"], same["unlike"]) == (10, 10, False)
    none = rows["all", "all", "failed_mean"]
    assert (none["whole"], none["ratio"], none["unlike"]) == (0, None, False)
    assert ("conversation", "GPT-4", "requests_per_day") not in rows


def test_the_whole_is_like_itself():
    whole = trace([3, 5])
    kept, record = select(whole, 2, Window.of({"days": 2}))
    assert kept.equals(whole)
    assert not any(record["unlike"].to_pylist())
    assert set(record["ratio"].drop_null().to_pylist()) == {1.0}


@pytest.mark.parametrize("window", [(0, 1), (2, 1), (1, 5)])
def test_a_window_outside_of_the_calendar_is_refused(window):
    with pytest.raises(UserError, match=f"found days {window[0]} to {window[1]}, expected days within 1 to 4"):
        Window.of({"days": 4, "window": {"from_day": window[0], "to_day": window[1]}})


def test_a_window_without_requests_is_refused():
    with pytest.raises(UserError, match="no request on days 2 to 2; the trace has 4 requests, from day 1 to day 3"):
        select(trace([1, 0, 3]), 3, Window(2, 2))


def test_the_quiet_head_is_warned_of(tmp_path, capsys):
    """Through the command: two quiet days before two busy ones."""
    lines = [f"{int(t)},GPT-4,10,5,15,API log\n" for t in trace([1, 1, 50, 50])["time_s"].to_pylist()]
    (tmp_path / "raw.csv").write_text(HEADER + "".join(lines))
    settings = {"start": "2023-11-01", "days": 4, "window": {"from_day": 1, "to_day": 2}}
    out, record = tmp_path / "trace.parquet", tmp_path / "window.csv"
    files = ["--csv", str(tmp_path / "raw.csv"), "--out", str(out), "--window", str(record)]
    main(["trace", "read", "--settings", json.dumps(settings), *files])
    assert TRACE.read(out)["time_s"].to_pylist() == [0, DAY]
    message = capsys.readouterr().err
    assert "days 1 to 2 are unlike the whole trace of 4 days" in message
    assert "api GPT-4 requests_per_day: 1 in the window, 25.5 [1/d] in the whole" in message
    unlike = [row for row in TRACE_WINDOW.read(record).to_pylist() if row["unlike"]]
    assert {row["quantity"] for row in unlike} == {"requests_per_day"}
