"""The comparison with published numbers, on traces small enough to count by hand."""

from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from burstbench.cli import main
from burstbench.contracts import TRACE, TRACE_CHECK
from burstbench.errors import UserError
from burstbench.trace.check import check_trace
from burstbench.trace.published import read_published

START = date(2023, 11, 6)  # a Monday
FOLDER = Path(__file__).parents[2] / "data" / "published"


def trace(rows) -> pa.Table:
    """A trace of (time, service, model, request, response)."""
    times, services, models, requests, responses = zip(*rows, strict=True)
    return pa.table(
        {
            "time_s": pa.array(times, pa.float64()),
            "service": services,
            "model": models,
            "request_tokens": requests,
            "response_tokens": responses,
            "failed": [response == 0 for response in responses],
            "session_id": pa.nulls(len(times), pa.string()),
            "elapsed_s": pa.nulls(len(times), pa.float64()),
        }
    )


def found(rows, days=7) -> dict[tuple[str, str], dict]:
    table = check_trace(trace(rows), read_published(FOLDER), START, days)
    TRACE_CHECK.validate(table, "check")
    return {(row["table"], row["item"]): row for row in table.to_pylist()}


# Two days of ChatGPT conversation, 1 and 3 requests between 9 and 10 h, and one on a Saturday; one API request.
ROWS = [
    (9 * 3600, "conversation", "ChatGPT", 20, 100),
    (10 * 3600, "api", "GPT-4", 7, 0),
    (86400 + 9 * 3600, "conversation", "ChatGPT", 20, 10),
    (86400 + 9 * 3600, "conversation", "ChatGPT", 20, 20),
    (86400 + 9 * 3600 + 4, "conversation", "ChatGPT", 20, 60),
    (5 * 86400 + 9 * 3600, "conversation", "ChatGPT", 5, 5),
]


def test_moments():
    rows = found(ROWS)
    expected = {
        "requests: all": 6,
        "requests: conversation ChatGPT": 5,
        "requests: GPT-4": 1,
        "failures: all": 1,
        "failures: api": 1,
        "period: first timestamp": 32400,
        "rate: all": 6 / (7 * 86400),
        "gaps: max": 4 * 86400 - 4,
        "gaps: share of rows that repeat the previous timestamp": 1 / 6,
        "request tokens: max": 20,
        "response tokens: median": 15,
        "request tokens: rows of 0": 0,
    }
    for item, value in expected.items():
        assert rows["moments", item]["found"] == pytest.approx(value), item
    assert rows["moments", "requests: all"]["error"] == pytest.approx(6 / 1_429_737 - 1)
    share = rows["moments", "gaps: share of rows that repeat the previous timestamp"]
    assert share["error"] == pytest.approx(1 / 6 - 0.456)  # a pure number: the difference


def test_days():
    rows = found(ROWS)
    assert rows["daily_requests", "2023-11-07 conversation ChatGPT requests"]["found"] == 3
    assert rows["daily_requests", "2023-11-07 conversation ChatGPT requests"]["published"] == 2062
    assert rows["daily_requests", "2023-11-10 api ChatGPT requests"]["clipped"]
    assert not any("2023-11-13" in item for _, item in rows)  # outside of the seven days


def test_boxes_are_of_workdays_and_hours_with_requests():
    rows = found(ROWS)
    box = {corner: rows["hourly_boxes", f"hourly_request_count conversation ChatGPT 9 h {corner}"]["found"]
           for corner in ("whisker_low", "q1", "median", "q3", "whisker_high")}  # fmt: skip
    assert box == {"whisker_low": 1, "q1": 1.5, "median": 2, "q3": 2.5, "whisker_high": 3}
    assert rows["hourly_boxes", "hourly_response_tokens conversation ChatGPT 9 h median"]["found"] == 95
    assert ("hourly_boxes", "hourly_request_count conversation ChatGPT 10 h median") not in rows


def test_a_zero_has_no_relative_error():
    rows = found([(86400 * i + 2 * 3600, "conversation", "ChatGPT", 5, 5) for i in range(3)])
    low = rows["hourly_boxes", "hourly_request_count conversation ChatGPT 2 h whisker_low"]
    assert (low["published"], low["found"], low["error"]) == (0, 1, None)


def test_responses_by_request_length():
    requests = [(i, "conversation", "ChatGPT", 18, i) for i in range(1, 42)]
    requests += [(50, "conversation", "ChatGPT", 25, 5000), (51, "conversation", "GPT-4", 18, 5000)]
    rows = found(requests)
    item = "ChatGPT {} at 20 request tokens"
    assert rows["response_by_request_tokens", item.format("response_median")]["found"] == 21
    assert rows["response_by_request_tokens", item.format("response_mean")]["found"] == 21
    assert rows["response_by_request_tokens", item.format("response_p05")]["found"] == 3
    assert rows["response_by_request_tokens", item.format("response_p95")]["found"] == 39
    assert not any("GPT-4 response" in name for _, name in rows)  # a single request says nothing


def test_too_short():
    with pytest.raises(UserError, match="1 rows"):
        check_trace(trace(ROWS[:1]), read_published(FOLDER), START, 7)


def test_command_line(tmp_path):
    TRACE.write(trace(ROWS), tmp_path / "trace.parquet")
    out = tmp_path / "check.csv"
    expected = f"moments,requests: all,requests,1429737,6,{6 / 1_429_737 - 1!r},0,false"
    main(["trace", "check", "--settings", '{"start": "2023-11-06", "days": 7}', "--trace",
          str(tmp_path / "trace.parquet"), "--published", str(FOLDER), "--out", str(out)])  # fmt: skip
    assert out.read_text().splitlines()[1].replace('"', "") == expected
