"""The verb, on files, against a server on the loopback."""

import json
import os
import signal
import threading

import numpy as np
import pyarrow as pa
import pytest
from burstbench import cli, contracts
from burstbench.errors import UserError
from burstbench.serve import endpoint, scrape
from serve_faulty_server import serving
from serve_plans import plan

CELL = {"experiment": "warmup", "model": "llama-2-7b-chat", "gpu": "a800", "seed": 1}
PAGE = """# HELP vllm:kv_cache_usage_perc KV-cache usage.
vllm:num_requests_running{{engine="0",model_name="m"}} {running}
vllm:num_requests_running{{engine="1",model_name="m"}} 1.0
vllm:num_requests_waiting 2
vllm:kv_cache_usage_perc{{engine="0"}} 2.5e-01
vllm:generation_tokens_total{{engine="0"}} {tokens} 1700000000
vllm:generation_tokens_created{{engine="0"}} 1.7e+09
process_open_fds 12
"""


@pytest.fixture(scope="module")
def server():
    with serving() as found:
        yield found


@pytest.fixture
def cell(tmp_path):
    """Plan, pool and the verb's arguments."""
    (tmp_path / "plan.json").write_text(json.dumps(CELL))
    contracts.PLAN.write(plan(np.arange(6) * 0.02), tmp_path / "plan.parquet")
    column = pa.LargeListArray.from_arrays(pa.array([0, 10, 20, 30]), pa.array(np.arange(30), pa.uint16()))
    schema = pa.schema(
        [pa.field("tokens", column.type, False), pa.field("conversation", pa.int64(), False)],
        {"contract": "pool", "vocabulary": "32000", "tokenizer_sha256": "0" * 64},
    )
    with pa.OSFile(str(tmp_path / "pool.arrow"), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch([column, pa.array([0, 1, 2])], schema=schema))

    def arguments(url, **settings):
        names = ("requests.parquet", "steps.parquet", "run.json", "client.parquet")
        options = ("--requests", "--steps", "--run", "--client")
        made = [part for pair in zip(options, names, strict=True) for part in (pair[0], str(tmp_path / pair[1]))]
        values = {**CELL, "url": url, "served_model": "m", "lag_limit_s": 5.0, **settings}
        inputs = ["--plan", f"{tmp_path}/plan.parquet", "--plan-record", f"{tmp_path}/plan.json"]
        inputs += ["--pool", f"{tmp_path}/pool.arrow"]
        return ["serve", "endpoint", "--settings", json.dumps(values), *inputs, *made]

    return arguments


def test_a_cell_is_run_and_written(server, cell, tmp_path, monkeypatch):
    server.metrics = PAGE.format(running=3.0, tokens=10)
    monkeypatch.setenv("KEY_OF_THE_SERVER", "secret")
    cli.main(cell(server.url("status-504"), api_key_env="KEY_OF_THE_SERVER", ignore_eos=True))
    requests = contracts.REQUESTS.read(tmp_path / "requests.parquet")
    assert requests.column("outcome").to_pylist() == ["ok", "timeout"] * 3
    assert requests.column("prompt_tokens").to_pylist() == [5, None] * 3
    assert requests.column("first_scheduled_ns").null_count == 6
    assert contracts.STEPS.read(tmp_path / "steps.parquet").num_rows == 0
    seen = contracts.CLIENT.read(tmp_path / "client.parquet")
    assert seen.column("status").to_pylist() == [200, 504] * 3
    assert seen.column("chunk_tokens").to_pylist() == [[1, 2, 3], []] * 3
    run = json.loads((tmp_path / "run.json").read_text())
    assert {key: run[key] for key in CELL} == CELL
    assert (run["engine"], run["simulated"], run["requests"]) == ("endpoint", False, 6)
    assert run["outcomes"]["timeout"] == 3
    assert "steps.parquet is empty" in run["statement"]
    assert run["server_metrics"]["available"]
    assert run["server_metrics"]["vllm:num_requests_running"] == {"mean": 4.0, "max": 4.0}
    assert [check["passed"] for check in run["delivery"]["checks"]] == [True] * 4
    assert "secret" not in (tmp_path / "run.json").read_text()
    assert server.bodies["warmup-llama-2-7b-chat_a800_s1-1"]["prompt"] == [10, 11, 12, 13, 14]
    assert "Authorization: Bearer secret" in server.heads["warmup-llama-2-7b-chat_a800_s1-0"]


def test_a_run_that_lags_is_written_and_then_fails(server, cell, tmp_path, capsys):
    server.metrics = None
    with pytest.raises(SystemExit) as stopped:
        cli.main(cell(server.url(), lag_limit_s=1e-9))
    assert stopped.value.code == 2
    assert "lag: 99th percentile of sent - intended" in capsys.readouterr().err
    run = json.loads((tmp_path / "run.json").read_text())
    assert [check["name"] for check in run["delivery"]["checks"] if not check["passed"]] == ["lag"]
    assert not run["delivery"]["partial"]
    assert not run["server_metrics"]["available"]
    assert "404" in run["server_metrics"]["reason"]
    assert contracts.REQUESTS.read(tmp_path / "failed" / "requests.parquet").num_rows == 6


def test_a_terminated_run_is_written_as_partial_and_fails(server, cell, tmp_path, capsys):
    threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(SystemExit) as stopped:
        cli.main(cell(server.url("hang")))
    assert stopped.value.code == 2
    assert "stopped: 6 of 6 requests were sent" in capsys.readouterr().err
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["delivery"]["partial"]
    assert run["outcomes"]["ok"] + run["outcomes"]["aborted"] == 6
    assert run["outcomes"]["aborted"] == 3


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 2}, "seed: found 1, expected 2"),
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"lag_limit_s": 0}, "lag_limit_s: found 0, expected a positive number"),
        ({"total_s": True}, "total_s: found True"),
        ({"processes": 1.5}, "processes: found 1.5"),
        ({"api_key_env": "NO_SUCH_NAME"}, "the environment has no variable 'NO_SUCH_NAME'"),
        ({"url": "localhost"}, "url: found 'localhost'"),
    ],
)
def test_wrong_settings_are_refused(cell, capsys, changed, message):
    with pytest.raises(SystemExit):
        cli.main(cell(**{"url": "http://127.0.0.1:9/v1", **changed}))
    assert message in capsys.readouterr().err


def test_a_missing_setting_is_named():
    with pytest.raises(UserError, match="key 'url' is missing"):
        endpoint.checked({**CELL, "served_model": "m"})


def test_metrics_are_parsed_and_summed_over_labels():
    assert scrape.parse(PAGE.format(running=3.0, tokens=10)) == {
        "vllm:num_requests_running": 4.0,
        "vllm:num_requests_waiting": 2.0,
        "vllm:kv_cache_usage_perc": 0.25,
        "vllm:generation_tokens_total": 10.0,
    }
    assert scrape.parse('other{a="vllm:num_requests_running 3"} 1\n\n') == {}


def test_metrics_are_summarised():
    samples = [scrape.parse(PAGE.format(running=r, tokens=t)) for r, t in ((0, 100), (4, 130), (2, 190))]
    assert scrape.summarise(samples) == {
        "samples": 3,
        "every_s": 1.0,
        "vllm:num_requests_running": {"mean": 3.0, "max": 5.0},
        "vllm:num_requests_waiting": {"mean": 2.0, "max": 2.0},
        "vllm:kv_cache_usage_perc": {"mean": 0.25, "max": 0.25},
        "vllm:generation_tokens_total": {"increase": 90.0},
    }
