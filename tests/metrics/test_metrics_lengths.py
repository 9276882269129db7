"""Length tables of runs: pooling, labels, failures left out."""

import json

import pytest
from burstbench.cli import main
from burstbench.contracts import LENGTH_COUNTS, REQUESTS, RESPONSE_BY_REQUEST
from burstbench.errors import UserError
from burstbench.metrics.lengths import TABLES, answered, lengths
from metrics_cells import write_cell

SETTINGS = {
    "seed": 1,
    "request_bin_tokens": 10,
    "coarse_request_bins": [1, 10, 100],
    "response_bin_tokens": 5,
}


def request(prompt, response, outcome="ok"):
    return {"intended": 0, "done": 1, "prompt": prompt, "tokens": response, "outcome": outcome}


def outputs(folder):
    return {contract.name: folder / f"{contract.name}.parquet" for contract in TABLES}


def test_seeds_are_pooled_and_failures_left_out(tmp_path):
    cells = [
        write_cell(tmp_path, [request(4, 6), request(12, 20), request(99, 1, "timeout")], [], seed=2, gpu="g"),
        write_cell(tmp_path, [request(4, 10)], [], seed=1, gpu="g"),
        write_cell(tmp_path, [request(5, 7)], [], seed=1, gpu="a"),
    ]
    lengths(cells, outputs(tmp_path), SETTINGS)
    counts = LENGTH_COUNTS.read(tmp_path / "length_counts.parquet").to_pylist()
    found = {(row["source"], row["quantity"], row["tokens"]): row["requests"] for row in counts}
    assert found == {
        ("run m a", "request", 5): 1,
        ("run m a", "response", 7): 1,
        ("run m g", "request", 4): 2,
        ("run m g", "request", 12): 1,
        ("run m g", "response", 6): 1,
        ("run m g", "response", 10): 1,
        ("run m g", "response", 20): 1,
    }
    bins = RESPONSE_BY_REQUEST.read(tmp_path / "response_by_request.parquet").to_pylist()
    assert [(row["source"], row["request_low"], row["response_mean"]) for row in bins] == [
        ("run m a", 0, 7),
        ("run m g", 0, 8),
        ("run m g", 10, 20),
    ]


def test_the_order_of_cells_does_not_matter(tmp_path):
    cells = [
        write_cell(tmp_path, [request(3 + seed, 9 * seed + n) for n in range(30)], [], seed=seed) for seed in (1, 2, 3)
    ]
    for name, order in (("x", cells), ("y", cells[::-1])):
        lengths(order, outputs(tmp_path / name), SETTINGS)
    for contract in TABLES:
        name = f"{contract.name}.parquet"
        assert (tmp_path / "x" / name).read_bytes() == (tmp_path / "y" / name).read_bytes()


def test_no_answer_at_all_makes_empty_tables(tmp_path):
    tables = lengths([write_cell(tmp_path, [request(4, 0, "timeout")], [])], outputs(tmp_path), SETTINGS)
    assert all(table.num_rows == 0 for table in tables.values() if table.num_rows)
    assert LENGTH_COUNTS.read(tmp_path / "length_counts.parquet").num_rows == 0


def test_an_answer_without_a_token_count_and_a_cell_twice_are_refused(tmp_path):
    cell = write_cell(tmp_path, [request(4, 2), request(4, 2)], [])
    with pytest.raises(UserError, match="again"):
        lengths([cell, cell], outputs(tmp_path), SETTINGS)
    path = cell[1] / "requests.parquet"
    rows = REQUESTS.read(path).to_pylist()
    rows[1]["prompt_tokens"] = None
    REQUESTS.write({name: [row[name] for row in rows] for name in rows[0]}, path)
    with pytest.raises(UserError, match="request_id 1: answered, but prompt_tokens is missing"):
        answered(*cell)


def test_the_verb(tmp_path):
    cell = write_cell(tmp_path, [request(n, 2 * n) for n in range(1, 30)], [])
    options = [f"--{name.replace('_', '-')}={path}" for name, path in outputs(tmp_path).items()]
    main(["metrics", "lengths", "--settings", json.dumps(SETTINGS), "--cell", *map(str, cell), *options])
    for contract in TABLES:
        assert contract.read(tmp_path / f"{contract.name}.parquet").num_rows
