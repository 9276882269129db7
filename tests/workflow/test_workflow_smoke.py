"""The smoke study: a real vLLM on this CPU through every room, each number checked against another count of it."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import yaml
from burstbench import contracts
from burstbench.layout import FIGURES, TABLES

from .conftest import ROOT, Repository, copy_of_the_repository, fetch_what_the_studies_need

PYTHON = ROOT / ".venv-vllm/bin/python"
SMOKE = yaml.safe_load((ROOT / "config/studies/smoke.yaml").read_text())
CELLS = [f"{experiment}/tiny_cpu_s1" for experiment in SMOKE["experiments"]]

if not PYTHON.exists():
    pytest.skip(f"{PYTHON} is not there: `make .venv-vllm/.done` installs vLLM", allow_module_level=True)

pytestmark = pytest.mark.slow(1)


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Repository:
    """The smoke study, finished."""
    fetch_what_the_studies_need()
    made = replace(copy_of_the_repository(tmp_path_factory.mktemp("smoke")), study="config/studies/smoke.yaml")
    (made.folder / ".venv-vllm").symlink_to(ROOT / ".venv-vllm")
    made.snakemake("--cores", "2")
    return made


@pytest.fixture
def results(repository):
    return repository.folder / "results/smoke"


@pytest.fixture(params=CELLS)
def cell(request, results):
    """Plan, requests, steps and record of one run."""
    plan, serve = results / "plan" / request.param, results / "serve" / request.param
    return (
        contracts.PLAN.read(plan / "plan.parquet"),
        contracts.REQUESTS.read(serve / "requests.parquet"),
        contracts.STEPS.read(serve / "steps.parquet"),
        json.loads((serve / "run.json").read_text()),
    )


def values(table, name):
    return table.column(name).to_numpy()


def test_every_request_is_answered_and_has_both_sides(cell):
    plan, requests, _, record = cell
    assert record["join"]["client_rows"] == record["join"]["joined"] == plan.num_rows == requests.num_rows
    assert record["join"]["client_rows_without_engine_row"] == {}
    assert record["join"]["outcomes"] == {"ok": plan.num_rows}
    assert record["client"]["messages"] == {}


def test_prompts_are_exact_and_every_token_is_counted_twice(cell):
    """By the recorder's steps, by the client, and by the server's own counters."""
    plan, requests, steps, record = cell
    prompts, responses = values(requests, "prompt_tokens"), values(requests, "response_tokens")
    template = record["chat_template"]["tokens"]
    expected = np.maximum(values(plan, "prompt_tokens"), template + 1 if template else 0)
    assert prompts.tolist() == expected.tolist()
    # The request that woke the server: 8 tokens in, 1 out.
    assert record["server_counters"]["prompt_tokens_total"] == prompts.sum() + 8
    assert record["server_counters"]["generation_tokens_total"] == responses.sum() + 1
    preempted = record["server_counters"]["num_preemptions_total"]
    assert preempted == values(requests, "preemptions").sum() == values(steps, "preempted").sum() == 0
    assert values(steps, "prefill_tokens").sum() == prompts.sum()
    assert values(steps, "decode_tokens").sum() == (responses - 1).sum()


def test_a_run_says_what_it_was(cell):
    record = cell[3]
    assert record["simulated"] is False
    assert record["device"] == "cpu"
    assert "random weights, on the CPU" in record["statement"]


def test_responses_flow_into_the_figures_of_lengths(results):
    requests = contracts.REQUESTS.read(results / "serve/responses/tiny_cpu_s1/requests.parquet")
    record = json.loads((results / "serve/responses/tiny_cpu_s1/run.json").read_text())
    sampling = SMOKE["experiments"]["responses"]["sampling"]
    assert record["settings"]["temperature"] == sampling["temperature"]
    assert record["settings"]["chat_template"] == sampling["chat_template"]
    assert 0 < record["chat_template"]["requests_lengthened"] < requests.num_rows
    counts = contracts.LENGTH_COUNTS.read(results / "metrics/responses/length_counts.parquet").to_pylist()
    for quantity in ("request", "response"):
        found = {row["tokens"]: row["requests"] for row in counts if row["quantity"] == quantity}
        seen, times = np.unique(values(requests, "prompt_tokens" if quantity == "request" else "response_tokens"),
                                return_counts=True)  # fmt: skip
        assert found == dict(zip(seen.tolist(), times.tolist(), strict=True))
    for figure in ("fig07", "fig08", "fig09"):
        assert "tiny cpu" in (results / f"figures/{figure}.csv").read_text(), figure


def test_every_figure_table_and_page_is_there_and_claims_no_gpu(results):
    for name in FIGURES:
        assert (results / f"figures/{name}.png").stat().st_size > 0
    for name in TABLES:
        assert (results / f"tables/{name}.md").stat().st_size > 0
    assert (results / "paper.pdf").stat().st_size > 0
    hardware = (results / "tables/table2.csv").read_text()
    assert "none (the engine ran on the CPU)" in hardware
    assert json.loads((results / "figures/fig17.json").read_text())["facts"]["engine"] == "vllm-cpu"
    rows = contracts.SCORECARD.read(results / "scorecard.csv").to_pylist()
    assert {row["claim"] for row in rows} == set(range(1, 20))


def test_run_again_there_is_nothing_to_do_and_no_server_is_left(repository):
    assert repository.planned() == {}
    marked = [
        path for path in (f"/proc/{name}/cwd" for name in os.listdir("/proc") if name.isdigit())
        if os.path.exists(path) and os.readlink(path).startswith(str(repository.folder))
    ]  # fmt: skip
    assert marked == []
