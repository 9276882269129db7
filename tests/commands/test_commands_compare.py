"""Two small made-up studies, of which each difference is known."""

import json
import re
import shutil

import pytest
from burstbench import cli, contracts
from burstbench.commands.compare import compare

METRIC = {"experiment": "warmup", "model": "m", "gpu": "g", "phase": "p", "step": -1, "alpha": 1.0, "beta": 2.0,
          "theta": 1.1, "unit": "s", "seeds": 2}  # fmt: skip


def study(folder, beta, sums, versions, code, verdict, numbers):
    """Write a study's folder; `numbers` are (metric, value, low, high)."""
    folder.mkdir()
    root = f"results/{folder.name}"
    parameters = {"study": folder.name, "plan": {"beta": beta, "kept": [1, 2]}}
    (folder / "parameters.json").write_text(json.dumps(parameters))
    files = {path.replace("ROOT", root): {"sha256": sha * 64, "bytes": 1} for path, sha in sums.items()}
    made = [path for path in files if path.startswith(root)]
    jobs = [{"rule": "r", "inputs": [], "outputs": made, "command": "burstbench plan make", "code": code}]
    record = {"study": folder.name, "files": files, "jobs": jobs, "software": versions}
    (folder / "provenance.json").write_text(json.dumps(record))
    texts = dict.fromkeys((c.name for c in contracts.SCORECARD.columns if c.type == contracts.TEXT), "x")
    row = texts | {"claim": 1, "title": "Counts", "part": "all", "verdict": verdict, "measured": "5", "input": "twin"}
    contracts.SCORECARD.write({key: [value] for key, value in row.items()}, folder / "scorecard.csv")
    rows = [METRIC | {"metric": name, "mean": mean, "low": low, "high": high} for name, mean, low, high in numbers]
    columns = [column.name for column in contracts.SUMMARY.columns]
    table = {name: [row[name] for row in rows] for name in columns}
    contracts.SUMMARY.write(table, folder / "metrics/warmup/summary.parquet")
    return folder


@pytest.fixture
def studies(tmp_path):
    one = study(
        tmp_path / "one", 2.0, {"config/a.yaml": "a", "data/raw/x.csv": "c", "ROOT/t.csv": "1", "ROOT/fig/f.svg": "2"},
        {"numpy": "2.4"}, {"plan": "000000000000", "seeds": "222222222222"}, "reproduced",
        [("latency_mean", 10.0, 9.0, 11.0), ("ttft_mean", 1.0, 0.9, 1.2), ("failure_rate", 0.0, 0.0, 0.0),
         ("tpot_mean", 1.0, 1.0, 2.0)],
    )  # fmt: skip
    two = study(
        tmp_path / "two", 3.0, {"config/a.yaml": "b", "data/raw/x.csv": "c", "ROOT/t.csv": "1", "ROOT/fig/f.svg": "3"},
        {"numpy": "2.5"}, {"plan": "111111111111", "seeds": "222222222222"}, "not reproduced",
        [("latency_mean", 12.0, 11.5, 12.5), ("ttft_mean", 1.25, 1.1, 1.4), ("failure_rate", 0.5, 0.4, 0.6),
         ("goodput", 1.0, 1.0, 1.0)],
    )  # fmt: skip
    return one, two


def test_each_difference_is_found_and_nothing_else(studies):
    parameters, inputs, versions, verdicts, moved, files = compare(*studies)
    assert parameters.rows == [("study", "one", "two"), ("plan.beta", "2.0", "3.0")]
    assert inputs.rows == [("config/a.yaml", "aaaaaaaaaaaa…", "bbbbbbbbbbbb…")]
    assert versions.rows == [("numpy", "2.4", "2.5"), ("plan", "000000000000", "111111111111")]
    assert verdicts.rows == [("1. Counts: all", "reproduced (5)", "not reproduced (5)")]
    # ttft's intervals overlap; tpot and goodput have no partner.
    assert [(row[1].split()[-1], row[4]) for row in moved.rows] == [("failure_rate", "+0.5"), ("latency_mean", "+20 %")]
    assert moved.rows[1][2:4] == ("10 [9, 11]", "12 [11.5, 12.5]")
    assert moved.note == "2 of 3 that both have; 1 only in one; 1 only in two"
    assert files.rows == [("fig", "0", "1", "0", "0"), ("t.csv", "1", "0", "0", "0")]


def test_intervals_that_touch_have_not_moved(studies):
    one, two = studies
    path = two / "metrics/warmup/summary.parquet"
    rows = contracts.SUMMARY.read(path).to_pylist()
    next(row for row in rows if row["metric"] == "latency_mean")["low"] = 11.0
    contracts.SUMMARY.write({name: [row[name] for row in rows] for name in rows[0]}, path)
    assert [row[1].split()[-1] for row in compare(one, two)[4].rows] == ["failure_rate"]


def test_a_terminal_and_a_page_show_the_same(studies, capsys, tmp_path):
    out = tmp_path / "page.html"
    cli.main(["compare", *map(str, studies), "--html", str(out)])
    printed, page = capsys.readouterr().out, out.read_text()
    for table in compare(*studies):
        assert table.title in printed
        assert table.title in page
        for row in table.rows:
            for cell in row:
                assert cell in printed
                assert cell in page
    assert "prefers-color-scheme: dark" in page
    assert not re.search(r"(?:src|href)=|https?://", page)


def test_a_study_compared_with_itself_is_refused_and_with_its_copy_shows_nothing(studies, tmp_path, capsys):
    one = studies[0]
    with pytest.raises(SystemExit) as stop:
        cli.main(["compare", str(one), f"{one}/../one"])
    assert stop.value.code == 2
    shutil.copytree(one, tmp_path / "copies/one")
    tables = compare(one, tmp_path / "copies/one")
    assert [len(table.rows) for table in tables] == [0, 0, 0, 0, 0, 2]
    assert tables[0].header == ("key", str(one), str(tmp_path / "copies/one"))


@pytest.mark.parametrize("name", ["parameters.json", "provenance.json", "scorecard.csv"])
def test_what_is_no_study_is_refused_by_name(studies, name, capsys):
    (studies[1] / name).unlink()
    with pytest.raises(SystemExit) as stop:
        cli.main(["compare", *map(str, studies)])
    assert stop.value.code == 2
    assert f"two/{name}: no such file" in capsys.readouterr().err
