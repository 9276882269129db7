"""`burstbench run`: one command against a real server on the loopback."""

import json
import sys
from pathlib import Path

import pytest
from burstbench import cli
from burstbench.commands.run import FILES
from burstbench.contracts import CLIENT, PLAN, REQUESTS, STEPS

sys.path.insert(0, str(Path(__file__).parents[1] / "serve"))
from serve_faulty_server import serving


@pytest.fixture(scope="module")
def server():
    with serving() as found:
        yield found


def words(url, out, *more):
    return ["run", "--endpoint", url, "--out", str(out), "--rate", "100", "--requests", "20", "--max-input-tokens",
            "50", "--lag-limit-s", "5", *more]  # fmt: skip


def test_one_command_plans_sends_writes_and_sums_up(server, tmp_path, capsys):
    cli.main(words(server.url("status-504"), tmp_path, "--ignore-eos"))
    plan, requests = PLAN.read(tmp_path / "plan.parquet"), REQUESTS.read(tmp_path / "requests.parquet")
    assert requests["outcome"].to_pylist() == ["ok", "timeout"] * 10
    assert requests["prompt_tokens"].to_pylist()[::2] == plan["prompt_tokens"].to_pylist()[::2]
    assert STEPS.read(tmp_path / "steps.parquet").num_rows == 0
    assert CLIENT.read(tmp_path / "client.parquet").num_rows == 20
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["served_model"] == "the-model"  # as /v1/models says
    assert record["prompts"] == "random token ids below 30000, seed 1"
    said = capsys.readouterr().out
    assert "the-model at http" in said
    assert "ok 10, timeout 10" in said
    assert "10 of 10 that the server counted" in said
    assert "10 x 504 Gateway Timeout: timed out after 30 s" in said
    body = server.bodies["load-endpoint_unknown_s1-0"]
    assert body["ignore_eos"]
    assert len(body["prompt"]) == plan["prompt_tokens"][0].as_py()


def test_plain_asks_for_nothing_beyond_the_interface(server, tmp_path):
    cli.main(words(server.url(), tmp_path, "--plain", "--quiet", "--model", "m"))
    body = server.bodies["load-endpoint_unknown_s1-0"]
    assert set(body) == {"model", "stream", "stream_options", "max_tokens", "prompt"}
    assert body["stream_options"] == {"include_usage": True}


def test_a_late_run_is_summed_up_and_fails(server, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([*words(server.url(), tmp_path), "--lag-limit-s", "1e-9"])
    assert stopped.value.code == 2
    out, said = capsys.readouterr()
    assert "ok 20" in out
    assert "burstbench run: lag: 99th percentile" in said


@pytest.mark.parametrize(
    ("url", "more", "expected"),
    [
        ("http://127.0.0.1:9/v1", [], "the server does not name its model"),
        (None, ["--api-key-env", "NO_SUCH_KEY"], "the environment has no variable 'NO_SUCH_KEY'"),
    ],
    ids=["a dead server", "a missing key"],
)
def test_a_run_that_cannot_start_leaves_the_earlier_one(url, more, expected, server, tmp_path, capsys):
    earlier = {name: name.encode() for name in ("plan.parquet", "plan.json", *FILES)}
    for name, text in earlier.items():
        (tmp_path / name).write_bytes(text)
    with pytest.raises(SystemExit, match="2"):
        cli.main(words(url or server.url(), tmp_path, *more))
    assert expected in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == earlier


def test_a_server_that_does_not_name_its_model(server, tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.main(words(server.url("status-404").replace("/v1", "/nowhere"), tmp_path))
    assert "the server does not name its model (HTTP Error 404" in capsys.readouterr().err
