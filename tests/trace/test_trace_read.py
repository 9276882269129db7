"""The reader of raw traces: what it takes, and that each refusal names file, line and reason."""

from datetime import date
from pathlib import Path

import pytest
from burstbench.cli import main
from burstbench.contracts import TRACE
from burstbench.errors import UserError
from burstbench.trace.adapters import adapters_of
from burstbench.trace.read import TraceError, read_traces

START = date(2023, 11, 1)
V1 = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"
V2 = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type"
GOOD = f"{V1}\n5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,0,0,0,API log\n45,ChatGPT,7,0,7,API log\n"


def read(path: Path, content: str | bytes, days: int = 61, **settings):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_traces([path], adapters_of(settings), START, days)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "raw.csv"


def test_v1_columns(path):
    table = read(path, GOOD)
    assert table.to_pydict() == {
        "time_s": [5.0, 45.0, 45.0],
        "service": ["conversation", "api", "api"],
        "model": ["ChatGPT", "GPT-4", "ChatGPT"],
        "request_tokens": [472, 0, 7],
        "response_tokens": [18, 0, 0],
        "failed": [False, True, True],
        "session_id": [None] * 3,
        "elapsed_s": [None] * 3,
    }
    TRACE.validate(table, "table")


@pytest.mark.parametrize("change", [
    lambda text: text.replace("\n", "\r\n"),
    lambda text: text.rstrip("\n"),
    lambda text: text.replace("\n", "\r\n").rstrip("\r\n"),
    lambda text: "\ufeff" + text,
])  # fmt: skip
def test_line_ends_and_marks_do_not_matter(path, change):
    assert read(path, change(GOOD)).equals(read(path, GOOD))


def test_fractions_of_seconds(path):
    table = read(path, f"{V1}\n0.25,GPT-4,1,2,3,API log\n1e1,GPT-4,1,2,3,API log\n")
    assert table["time_s"].to_pylist() == [0.25, 10.0]


def test_v2_columns(path):
    table = read(path, f"{V2}\n3,s-1,0.5,ChatGPT,1,2,3,Conversation log\n4,,,GPT-4,5,6,11,API log\n")
    assert table["session_id"].to_pylist() == ["s-1", None]
    assert table["elapsed_s"].to_pylist() == [0.5, None]
    assert table["request_tokens"].to_pylist() == [1, 5]
    TRACE.validate(table, "table")


def row(text: str) -> str:
    """A file whose line 3 is `text`, between good ones."""
    return f"{V1}\n5,ChatGPT,1,2,3,API log\n{text}\n9,GPT-4,1,2,3,API log\n"


@pytest.mark.parametrize(("line", "words"), [
    ("6,ChatGPT,one,2,3,API log", ["'Request tokens'", "'one'", "whole number"]),
    ("six,ChatGPT,1,2,3,API log", ["'Timestamp'", "'six'", "number of seconds"]),
    ("6,ChatGPT,1.5,2,3.5,API log", ["'Request tokens'", "'1.5'", "whole number"]),
    ("6,ChatGPT,1,,1,API log", ["'Response tokens'", "''", "whole number"]),
    ("6,ChatGPT,-1,2,1,API log", ["'Request tokens'", "'-1'", "at least 0"]),
    ("6,ChatGPT,1,2,4,API log", ["'Total tokens'", "'4'", "sum"]),
    ("6,ChatGPT,1,2,99999999999999999999,API log", ["'Total tokens'", "'99999999999999999999'"]),
    ("4,ChatGPT,1,2,3,API log", ["'Timestamp'", "'4'", "5", "time goes back"]),
    ("-4,ChatGPT,1,2,3,API log", ["'Timestamp'", "'-4'"]),
    ("nan,ChatGPT,1,2,3,API log", ["'Timestamp'", "'nan'", "finite"]),
    ("inf,ChatGPT,1,2,3,API log", ["'Timestamp'", "'inf'", "finite"]),
    (",ChatGPT,1,2,3,API log", ["'Timestamp'", "''"]),
    ("5270400,ChatGPT,1,2,3,API log", ["'Timestamp'", "5270400", "61 days"]),
    ("6,Claude,1,2,3,API log", ["'Model'", "'Claude'", "'ChatGPT', 'GPT-4'"]),
    ("6,,1,2,3,API log", ["'Model'", "''"]),
    ("6,ChatGPT,1,2,3,API", ["'Log Type'", "'API'", "'Conversation log', 'API log'"]),
    ("6,ChatGPT,1,2,3", ["5 fields", "6 fields"]),
    ("6,ChatGPT,1,2,3,API log,7", ["7 fields", "6 fields"]),
    ("", ["empty line"]),
    (V1, ["'Timestamp'", "found 'Timestamp'", "number of seconds"]),
])  # fmt: skip
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_wrong_line_is_named(path, line, words, end):
    with pytest.raises(TraceError) as error:
        read(path, row(line).replace("\n", end))
    message = str(error.value)
    assert message.startswith(f"{path}, line 3: ")
    for word in words:
        assert word in message


@pytest.mark.parametrize(("content", "line", "word"), [
    (b"", 1, "empty"),
    (V1 + "\n", 2, "after the header"),
    (V1, 2, "after the header"),
    (V1.replace(",Model", "") + "\n5,1,2,3,API log\n", 1, "column 'Model' is missing"),
    (V1 + ",Cost\n5,ChatGPT,1,2,3,API log,4\n", 1, "column 'Cost' is unknown"),
    ("Model,Timestamp" + V1[15:] + "\n", 1, "another order"),
    (V1.replace("Model", "Log Type") + "\n", 1, "Model"),
    (GOOD.encode("utf-16"), 1, "UTF-16"),
    ("<!DOCTYPE html><html><body>404</body></html>\n", 1, "web page"),
    ("\n  <html>", 1, "web page"),
    (GOOD.replace("45,GPT-4", "45\0,GPT-4"), 3, "NUL"),
    (GOOD.encode().replace(b"GPT-4", b"GPT-\xff"), 3, "UTF-8"),
    (GOOD[:-4], 4, "cut off"),
    (GOOD[:-12], 4, "cut off"),
    (GOOD + "46,Chat", 5, "cut off"),
    (GOOD + "\n", 5, "empty line"),
])  # fmt: skip
def test_a_wrong_file_is_named(path, content, line, word):
    with pytest.raises(TraceError) as error:
        read(path, content)
    assert str(error.value).startswith(f"{path}, line {line}: ")
    assert word in str(error.value)


def test_the_first_wrong_line_is_named_whatever_is_wrong(path):
    lines = [f"{t},ChatGPT,1,2,3,API log" for t in range(5000)]
    lines[4000] = "x,ChatGPT,1,2,3,API log"
    lines[3000] = "3000,ChatGPT,1,2,4,API log"
    with pytest.raises(TraceError, match=r"line 3002: .*sum"):
        read(path, "\n".join([V1, *lines]))
    lines[2000] = "2000,ChatGPT,1"
    with pytest.raises(TraceError, match="line 2002: found 3 fields"):
        read(path, "\n".join([V1, *lines]))


def test_files_are_one_trace(tmp_path):
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    a.write_text(GOOD)
    b.write_text(f"{V2}\n45,s,1,ChatGPT,1,2,3,API log\n")
    table = read_traces([a, b], adapters_of({}), START, 61)
    assert table["time_s"].to_pylist() == [5, 45, 45, 45]
    assert table["session_id"].to_pylist() == [None, None, None, "s"]
    TRACE.validate(table, "table")
    with pytest.raises(TraceError) as error:
        read_traces([b, a], adapters_of({}), START, 61)
    assert str(a) in str(error.value)
    assert str(b) in str(error.value)
    assert "line 2: time goes back to 5.0 s from 45.0 s" in str(error.value)
    moved = read_traces([b, a], adapters_of({}), START, 61, offsets_s=[0, 100])
    assert moved["time_s"].to_pylist() == [45, 105, 145, 145]


@pytest.mark.parametrize(("first", "seconds"), [
    ("2023-11-16 18:15:46.6805900", 65_746.68059),
    ("2023-11-16T00:00:00", 0.0),
    ("2023-11-16 00:00:00.009930+00:00", 0.00993),
])  # fmt: skip
def test_azure(path, first, seconds):
    path.write_text(f"TIMESTAMP,ContextTokens,GeneratedTokens\n{first},374,44\n")
    table = read_traces([path], adapters_of({"adapter": "azure", "model": "code"}), date(2023, 11, 16), 1)
    assert table["time_s"].to_pylist() == pytest.approx([seconds], abs=1e-9)
    assert table["service"].to_pylist() == ["api"]
    assert table["model"].to_pylist() == ["code"]
    assert table["request_tokens"].to_pylist() == [374]
    assert table["response_tokens"].to_pylist() == [44]
    with pytest.raises(TraceError, match=r"line 2: .*after the start of the trace, 2023-11-17"):
        read_traces([path], adapters_of({"adapter": "azure", "model": "code"}), date(2023, 11, 17), 1)


def test_azure_time_that_is_none(path):
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,3,4\n2023-11-16 25:00:00,3,4\n")
    with pytest.raises(TraceError, match="line 3: column 'TIMESTAMP': found '2023-11-16 25:00:00', expected a date"):
        read_traces([path], adapters_of({"adapter": "azure", "model": "code"}), date(2023, 11, 16), 1)


def test_any_csv_by_a_map_of_columns(path):
    settings = {
        "adapter": "columns",
        "columns": {"time_s": "t", "request_tokens": "in", "response_tokens": "out", "service": "kind", "model": "m"},
        "services": {"chat": "conversation", "batch": "api"},
    }
    table = read(path, 'note,out,in,t,kind,"m"\n"a, b",2,1,0.5,chat,llama\nc,4,3,0.5,batch,"x, y"\n', **settings)
    assert table["request_tokens"].to_pylist() == [1, 3]
    assert table["service"].to_pylist() == ["conversation", "api"]
    assert table["model"].to_pylist() == ["llama", "x, y"]
    with pytest.raises(TraceError, match=r"line 3: column 'kind': found 'x', expected one of 'chat', 'batch'"):
        read(path, 'note,out,in,t,kind,m\n"a, b",2,1,0.5,chat,llama\nc,4,3,0.5,x,y\n', **settings)
    with pytest.raises(TraceError, match="line 1: column 'in' is missing"):
        read(path, "note,out,t,kind,m\n", **settings)


@pytest.mark.parametrize(("settings", "word"), [
    ({"adapter": "other"}, "adapter"),
    ({"adapter": "azure"}, "model"),
    ({"adapter": "columns", "columns": {"time_s": "t"}}, "request_tokens"),
    ({"adapter": "columns", "columns": {"time": "t"}}, "time"),
    ({"adapter": "azure", "model": "x", "service": "mail"}, "mail"),
    ({"adapter": "azure", "model": "x", "clock": "moon"}, "moon"),
])  # fmt: skip
def test_wrong_settings(settings, word):
    with pytest.raises(UserError, match=word):
        adapters_of(settings)


def test_command_line(tmp_path, path, capsys):
    path.write_text(GOOD)
    out = tmp_path / "trace.parquet"
    arguments = ["trace", "read", "--settings", '{"start": "2023-11-01", "days": 61}', "--out", str(out)]
    arguments += ["--window", str(tmp_path / "window.csv"), "--csv"]
    main([*arguments, str(path)])
    assert TRACE.read(out).num_rows == 3
    with pytest.raises(SystemExit) as end:
        main([*arguments, str(tmp_path / "none.csv")])
    assert end.value.code == 2
    assert "none.csv: no such file" in capsys.readouterr().err


def test_the_first_rows_of_the_real_trace(shared_data):
    table = read_traces([shared_data / "burstgpt/BurstGPT_1_first400.csv"], adapters_of({}), START, 61)
    assert table.num_rows == 400
    assert table["time_s"][0].as_py() == 5
    assert table["time_s"][-1].as_py() == 37274
    assert sum(table["failed"].to_pylist()) == 17
    assert table["service"].to_pylist().count("api") == 2
