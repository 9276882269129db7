"""Mutated trace files: the reader takes them or names the first line that is wrong, and nothing else.

As a script, for more of them and with a seed: `python tests/trace/test_trace_fuzz.py 10000 1`.
"""

import csv
import io
import re
import sys
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path

import hypothesis.strategies as st
import pytest
from burstbench.trace.adapters import BURSTGPT_V1, BURSTGPT_V2, adapters_of
from burstbench.trace.read import TraceError, read_traces
from hypothesis import HealthCheck, example, given, seed, settings

V1 = b"Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n" + b"".join(
    b"%d,%s,%d,%d,%d,%s\n" % (3 * i // 2, (b"ChatGPT", b"GPT-4")[i % 3 == 0], 7 * i, 5 * i % 11, 7 * i + 5 * i % 11,
                              (b"Conversation log", b"API log")[i % 2])
    for i in range(12)
)  # fmt: skip
V2 = b"Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n" + b"".join(
    b"%d,%s,%s,GPT-4,%d,2,%d,API log\n" % (i, b"s%d" % (i // 2) if i % 3 else b"", b"0.%d" % i, i, i + 2)
    for i in range(12)
)
# As the releases of 2023 (7 digits, CR LF) and of 2024 (an offset) write their times.
AZURE_2023 = b"TIMESTAMP,ContextTokens,GeneratedTokens\r\n" + b"".join(
    b"2023-11-16 18:%02d:46.680590%d,%d,%d\r\n" % (i, i % 10, 100 * i, i % 4) for i in range(12)
)
AZURE_2024 = b"TIMESTAMP,ContextTokens,GeneratedTokens\n" + b"".join(
    b"2023-11-%02d 00:00:00.009930+00:00,%d,%d\n" % (i + 1, 100 * i, i % 4) for i in range(12)
)
START = date(2023, 11, 1)
ADAPTERS = (BURSTGPT_V1, BURSTGPT_V2, *adapters_of({"adapter": "azure", "model": "code"}))
RUBBISH = [b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\n", b"\r\n", b",", b'"', b"'", b"-", b"+", b".", b" ", b"\t",
           b"e9", b"nan", b"inf", b"1e400", b"9" * 25, b"0x", b"<html>", b"\xc3", "é".encode(), b";", b"#"]  # fmt: skip


@st.composite
def mutated(draw) -> bytes:
    """A good file with one to four changes, of bytes, of lines or of fields."""
    text = draw(st.sampled_from([V1, V2, V1.replace(b"\n", b"\r\n"), V1[:-1], AZURE_2023, AZURE_2024]))
    for _ in range(draw(st.integers(1, 4))):
        i, j = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
        lines = text.splitlines(keepends=True) or [b""]
        a, b = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines) - 1))
        kind = draw(st.sampled_from(["insert", "replace", "cut", "end", "byte", "swap", "repeat", "drop", "encode"]))
        if kind == "insert":
            text = text[:i] + draw(st.sampled_from(RUBBISH)) + text[i:]
        elif kind == "replace":
            text = text[:i] + draw(st.binary(max_size=4)) + text[i + draw(st.integers(1, 4)) :]
        elif kind == "cut":
            text = text[:i] + text[j:] if draw(st.booleans()) else text[:i] + text[i + 1 :]
        elif kind == "end":
            text = text[:i]
        elif kind == "byte" and text:
            text = text[: i - 1] + bytes([text[i - 1] ^ (1 << draw(st.integers(0, 7)))]) + text[i:]
        elif kind == "swap":
            lines[a], lines[b] = lines[b], lines[a]
            text = b"".join(lines)
        elif kind == "repeat":
            text = b"".join(lines[: a + 1] + lines[b:])
        elif kind == "drop":
            text = b"".join(lines[:a] + lines[a + 1 :])
        elif kind == "encode" and draw(st.integers(0, 9)) == 0:
            text = text.decode("latin-1").encode(draw(st.sampled_from(["utf-16", "utf-16-le", "utf-32"])))
    return text


def read(path: Path, text: bytes):
    path.write_bytes(text)
    return read_traces([path], ADAPTERS, START, 61)


def check(path: Path, text: bytes) -> bool:
    """Read one file, check what came of it, and say whether it was taken."""
    lines = text.splitlines(keepends=True)
    try:
        table = read(path, text)
    except TraceError as error:
        message = str(error)
    else:
        check_taken(table, text, len(lines))
        return True
    found = re.match(rf"{re.escape(str(path))}, line (\d+): (.+)", message, re.DOTALL)
    assert found, f"no line in {message!r}"
    number = int(found[1])
    assert 1 <= number <= max(len(lines), 1) + 1
    # It is the first wrong line: without it and what follows, there is nothing wrong.
    if number > 2 and "NUL" not in message:
        assert read(path, b"".join(lines[: number - 1])).num_rows == number - 2
    return False


def check_taken(table, text: bytes, lines: int) -> None:
    """Compare what was read with what Python's own CSV reader finds."""
    rows = list(csv.DictReader(io.StringIO(text.decode("utf-8-sig"), newline=""), quoting=csv.QUOTE_NONE))
    assert table.num_rows == len(rows) == lines - 1
    if "TIMESTAMP" in rows[0]:
        for row, time_s, request, response in zip(
            rows, *(table[name].to_pylist() for name in ("time_s", "request_tokens", "response_tokens")), strict=True
        ):
            moment = datetime.fromisoformat(row["TIMESTAMP"])
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
            begin = datetime(START.year, START.month, START.day, tzinfo=UTC)
            assert (moment - begin).total_seconds() == pytest.approx(time_s)
            assert [number(row[name]) for name in ("ContextTokens", "GeneratedTokens")] == [request, response]
        return
    for row, time_s, request, response, failed in zip(
        rows, *(table[name].to_pylist() for name in ("time_s", "request_tokens", "response_tokens", "failed")),
        strict=True,
    ):  # fmt: skip
        assert float(row["Timestamp"]) == time_s
        assert number(row["Request tokens"]) == request
        assert request + response == number(row["Total tokens"])
        assert failed == (response == 0)


def number(text: str) -> int:
    return int(text, 0 if "x" in text.lower() else 10)


def fuzz(path: Path, examples: int, with_seed: int = 0) -> tuple[int, int]:
    """Check so many mutated files; return how many were taken and how many refused."""
    taken: list[bool] = []

    @seed(with_seed)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(mutated())
    @example(V1)
    @example(V2)
    @example(AZURE_2023)
    @example(AZURE_2024)
    def run(text: bytes) -> None:
        taken.append(check(path, text))

    run()
    return sum(taken), len(taken) - sum(taken)


def test_mutated_files(tmp_path):
    taken, refused = fuzz(tmp_path / "raw.csv", 400)
    assert taken > 20
    assert refused > 100


@pytest.mark.parametrize("text", [V1, V2, AZURE_2023, AZURE_2024])
def test_every_cut(tmp_path, text):
    for end in range(len(text)):
        check(tmp_path / "raw.csv", text[:end])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print("taken {}, refused {}".format(*fuzz(Path(folder, "raw.csv"), *map(int, sys.argv[1:]))))
