"""`burstbench run`: one command against a real server on the loopback."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
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


@pytest.fixture
def pool(tmp_path):
    ids = np.arange(10, 410, dtype=np.uint16)
    column = pa.LargeListArray.from_arrays(pa.array([0, 200, 400], pa.int64()), pa.array(ids))
    schema = pa.schema(
        [pa.field("tokens", column.type, False), pa.field("conversation", pa.int64(), False)],
        {"contract": "pool", "vocabulary": "500", "tokenizer_sha256": "0" * 64, "format": "test"},
    )
    path = tmp_path / "prompts/pool.arrow"
    path.parent.mkdir()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch([column, pa.array([0, 1], pa.int64())], schema=schema))
    return path


def made_plan(folder, *more):
    cli.main(["plan", "load", "--rate", "100", "--requests", "20", "--max-input-tokens", "50", *more,
              "--plan", f"{folder}/plan.parquet", "--record", f"{folder}/plan.json"])  # fmt: skip
    return folder / "plan.parquet"


def sent(url, plan, out, *more):
    cli.main(["run", "--endpoint", url, "--plan", str(plan), "--out", str(out), "--lag-limit-s", "5", "--quiet", *more])
    return REQUESTS.read(out / "requests.parquet")


def test_a_plan_made_before_is_sent_as_it_is(server, tmp_path):
    plan, out = made_plan(tmp_path / "mine"), tmp_path / "out"
    found = sent(server.url(), plan, out)
    prompt = server.bodies["load-endpoint_unknown_s1-7"]["prompt"]
    assert found["prompt_tokens"].to_pylist() == PLAN.read(plan)["prompt_tokens"].to_pylist()
    for name in ("plan.parquet", "plan.json"):
        assert (out / name).read_bytes() == plan.with_name(name).read_bytes()
    cli.main(words(server.url(), tmp_path / "at_once", "--quiet"))
    assert (tmp_path / "at_once/plan.parquet").read_bytes() == plan.read_bytes()
    assert server.bodies["load-endpoint_unknown_s1-7"]["prompt"] == prompt


def test_a_plan_of_a_pool_is_sent_with_that_pool(server, tmp_path, pool):
    plan = made_plan(tmp_path / "mine", "--pool", str(pool))
    first = PLAN.read(plan).slice(0, 1).to_pylist()[0]
    sent(server.url(), plan, tmp_path / "out", "--pool", str(pool))
    start = 10 + 200 * first["prompt_id"]
    expected = list(range(start, start + first["prompt_tokens"]))
    assert server.bodies["load-endpoint_unknown_s1-0"]["prompt"] == expected
    # A study's plan names the index that lies beside the pool.
    index = pool.with_name("pool_index.parquet")
    index.write_bytes(b"index")
    record = json.loads(plan.with_name("plan.json").read_text())
    record["inputs_sha256"] = {"pool_index": hashlib.sha256(b"index").hexdigest()}
    plan.with_name("plan.json").write_text(json.dumps(record))
    assert sent(server.url(), plan, tmp_path / "out", "--pool", str(pool)).num_rows == 20
    index.write_bytes(b"another")
    with pytest.raises(SystemExit, match="2"):
        sent(server.url(), plan, tmp_path / "out", "--pool", str(pool))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--rate", "3"], "--plan and --rate: found both"),
        (["--seed", "3"], "--plan and --seed: found both"),
        (["--pool", "POOL"], "has random prompts, not those of a pool"),
        (["OTHER"], "plan.json is of "),
        (["NEEDED"], "are of a pool; give it as --pool"),
    ],
    ids=["a rate", "a seed", "a pool", "another's record", "no pool"],
)
def test_what_does_not_go_with_a_plan_is_refused(more, expected, server, tmp_path, pool, capsys):
    plan = made_plan(tmp_path / "mine", *(["--pool", str(pool)] if more == ["NEEDED"] else []))
    if more == ["OTHER"]:
        cli.main([*["plan", "load", "--requests", "3", "--record"], f"{tmp_path}/3.json", "--plan", str(plan)])
    given = [str(pool) if word == "POOL" else word for word in more if word not in ("OTHER", "NEEDED")]
    with pytest.raises(SystemExit, match="2"):
        sent(server.url(), plan, tmp_path / "out", *given)
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
