"""The supplementary tables from hand-made inputs: what their cells say."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from burstbench import contracts
from burstbench.contracts import Contract
from burstbench.layout import SUPPLEMENT_TABLES
from burstbench.tables import supplement
from burstbench.tables.make import make_table

FACTS = {"study": "trial", "trace": "twin", "trace_files": [], "start": "2023-11-01", "days": 61}


def make(name: str, folder: Path, **tables: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Write the tables' rows, make the table, and return its rows by column."""
    paths = {}
    for table, rows in tables.items():
        contract: Contract = contracts.CONTRACTS[table]
        suffix = ".csv" if table.startswith("trace_") else ".parquet"
        paths[table] = folder / f"{table}{suffix}"
        contract.write(pa.Table.from_pylist(rows, schema=contract.schema), paths[table])
    make_table(name, paths, [], FACTS, folder / name)
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_each_table_of_the_supplement_has_a_maker_that_takes_its_inputs():
    made = {name: set(artifact.required) for name, (artifact, _) in supplement.TABLES.items()}
    assert made == {name: set(inputs) for name, inputs in SUPPLEMENT_TABLES.items()}


def test_numbers_as_texts():
    assert [supplement.digits(value) for value in (0.52149, 57.43, 1234.5, 0, -0.002, float("nan"))] == [
        "0.521", "57.4", "1,234", "0", "−0.002", "–"]  # fmt: skip
    assert supplement.digits(0.00001234) == "0.000012"
    assert supplement.chance(1e-9) == "< 0.0001"
    assert supplement.percent_interval(0.0579, 0.0565, 0.0593) == "5.79 % [5.65, 5.93]"


def test_the_window_says_in_what_it_is_unlike(tmp_path):
    row = {"from_day": 1, "to_day": 7, "of_days": 61, "service": "api", "model": "ChatGPT"}
    quantities = {
        "requests_per_day": ("1/d", 900.0, 10.0, 1 / 90, True),
        "failed_mean": ("1", 0.02, 0.02, 1.0, False),
        "request_tokens_mean": ("tokens", 600.0, 610.0, 61 / 60, False),
        "response_tokens_mean": ("tokens", 100.0, 300.0, 3.0, True),
    }
    names = ("unit", "whole", "window", "ratio", "unlike")
    rows = [row | {"quantity": key} | dict(zip(names, values, strict=True)) for key, values in quantities.items()]
    (found,) = make("tableS01", tmp_path, trace_window=rows)
    assert found["Requests a day, window"] == "10"
    assert found["Failed, whole"] == "2.00 %"
    assert found["Unlike"] == "requests per day, response tokens"


def test_doublings_stand_beside_the_papers(tmp_path):
    def row(width: int, day_type: str, per_day: float, published: float | None) -> dict[str, Any]:
        return {
            "width_s": width, "alignment": "aligned", "zero_rule": "skip", "service": "all", "model": "ChatGPT",
            "day_type": day_type, "per_day": per_day, "low": per_day - 1, "high": per_day + 1, "days": 43,
            "published": published,
        }  # fmt: skip

    rows = [row(300, "workday", 32.5, 65.0), row(600, "workday", 38.0, 38.0), row(300, "weekend", 99.0, None),
            row(600, "weekend", 99.0, None)]  # fmt: skip
    (found,) = make("tableS03", tmp_path, doublings=rows)
    assert found["5 min"] == "32.5 [31.5, 33.5]"
    assert found["5 min, error"] == "−50 %"
    assert found["10 min, error"] == "+0 %"
    assert found["After an empty one"] == "skipped"


def test_failures_in_cells_and_pools(tmp_path):
    def row(service: str, model: str, requests: int, failed: int) -> dict[str, Any]:
        rate = failed / requests
        return {"service": service, "model": model, "requests": requests, "failed": failed, "rate": rate,
                "low": rate / 2, "high": rate * 2}  # fmt: skip

    rows = [row("all", "GPT-4", 400, 8), row("api", "ChatGPT", 1000, 10), row("conversation", "GPT-4", 100, 5)]
    found = make("tableS10", tmp_path, failures=rows)
    assert [(row["Service"], row["Model"], row[""]) for row in found] == [
        ("conversation", "GPT-4", "cell"), ("api", "ChatGPT", "cell"), ("all", "GPT-4", "pooled")]  # fmt: skip
    assert found[0]["Rate, 95 % Wilson interval"] == "5.00 % [2.50, 10.00]"


def test_a_fifth_that_does_not_exist_is_a_dash(tmp_path):
    row = {"service": "api", "model": "GPT-4", "load_of": "own", "part": 1, "load_low": 1, "load_high": 3,
           "minutes": 5, "requests": 10, "failed": 1, "rate": 0.1, "low": 0.02, "high": 0.4}  # fmt: skip
    (found,) = make("tableS11", tmp_path, failure_loads=[row])
    assert found["Fifth 1"] == "1–3: 10.00 % [2.00, 40.00]"
    assert found["Fifth 5"] == "–"


def test_a_trace_without_sessions_says_so(tmp_path):
    (found,) = make("tableS12", tmp_path, sessions=[], speed_loads=[])
    assert found["Service"] == "no such requests in this trace"


def test_speed_stands_by_load(tmp_path):
    session = {"service": "conversation", "model": "ChatGPT", "quantity": "turns", "unit": "1", "n": 7, "mean": 2.5,
               "p05": 1.0, "q1": 1.0, "median": 2.0, "q3": 3.0, "p95": 6.0}  # fmt: skip
    load = {"service": "conversation", "model": "ChatGPT", "load_of": "all", "part": 1, "load_low": 1, "load_high": 4,
            "requests": 20, "tokens_per_s_q1": 10.0, "tokens_per_s": 15.0, "tokens_per_s_q3": 18.0,
            "elapsed_s": 9.0}  # fmt: skip
    found = make("tableS12", tmp_path, sessions=[session], speed_loads=[load, load | {"load_of": "own"}])
    assert [row["Quantity"] for row in found] == ["turns", "tokens a second at 1–4 requests/min"]
    assert [row["Median"] for row in found] == ["2", "15"]


def test_recovery_of_known_parameters(tmp_path):
    row = {"alpha": 0.5, "mean_s": 4.0, "n": 20, "samples": 50, "log_error": 0.1, "fitted_share": 1.0}
    rows = [row | {"estimator": name, "ratio": ratio, "coverage": coverage} for name, ratio, coverage in (
        ("seconds", 1.08, 0.94), ("jitter", 1.2, 0.9), ("moments", 1.5, None))]  # fmt: skip
    (found,) = make("tableS07", tmp_path, recovery_gamma=rows)
    assert (found["seconds: α̂/α"], found["seconds: coverage"], found["moments: α̂/α"]) == ("1.08", "94 %", "1.5")
    assert json.loads((tmp_path / "tableS07.json").read_text(encoding="utf-8"))["badge"] == ""


def test_laws_of_lengths_say_what_speaks_against_zipf(tmp_path):
    row = {"source": "trace api ChatGPT", "quantity": "request", "n": 100, "n_max": 50, "log_likelihood": -400.0,
           "aic": 802.0, "ks": 0.2}  # fmt: skip
    rows = [
        row | {"family": "lognormal", "parameters": '{"mu": 5.8, "sigma": 1.6}', "ratio": 12.5, "p_value": 0.003},
        row | {"family": "zipf", "parameters": '{"theta": 0.83}', "ratio": 0.0, "p_value": None},
    ]
    found = make("tableS08", tmp_path, length_fits=rows)
    assert [row["Law"] for row in found] == ["zipf", "lognormal"]
    assert found[0]["Parameters"] == "theta 0.83"
    assert (found[1]["Log-likelihood above Zipf's"], found[1]["p (Vuong)"]) == ("12.5", "0.003")


def test_families_say_the_power_of_their_test(tmp_path):
    row = {"service": "api", "model": "ChatGPT", "family": "gamma", "windows": 100, "aic_best_share": 0.6,
           "aic_delta_median": 0.0, "test_pass_share": 0.95, "test_power": 0.57,
           "power_against": "lognormal"}  # fmt: skip
    untested = row | {"family": "weibull", "test_pass_share": None, "test_power": None, "power_against": None}
    found = make("tableS06", tmp_path, gamma_families=[row, untested])
    assert found[0]["Power"] == "0.57 against lognormal"
    assert (found[1]["Not rejected"], found[1]["Power"]) == ("–", "–")


def check_row(table: str, item: str, published: float, found: float, **others: Any) -> dict[str, Any]:
    row = {"table": table, "item": item, "unit": "requests", "published": published, "found": found,
           "error": found / published - 1, "reading_error": 0.0, "clipped": False}  # fmt: skip
    return row | others


def test_targets_are_met_or_missed(tmp_path):
    box = "hourly_request_count api ChatGPT {} h median"
    rows = [
        check_row("daily_requests", "2023-11-06 api ChatGPT requests", 100, 101),
        check_row("daily_requests", "2023-11-07 api ChatGPT requests", 100, 90, clipped=True),
        check_row("hourly_boxes", box.format(1), 100, 105),
        check_row("hourly_boxes", box.format(2), 100, 120),
        check_row("hourly_boxes", box.format(3), 2, 3, reading_error=1.0),
        check_row("moments", "requests: api", 1000, 1000),
        check_row("moments", "failures: api", 10, 13),
        check_row("moments", "failures: GPT-4", 10, 11),
    ]
    found = {row["Published"]: row for row in make("tableS13", tmp_path, trace_check=rows)}
    assert found["daily totals"]["Target met"] == "yes"
    assert found["daily totals"]["n"] == "1"
    medians = found["hourly requests, medians"]
    assert (medians["Target met"], medians["Within it"], medians["n"]) == ("no", "66.7 %", "3")
    assert found["failure rates (points)"]["Largest"] == "0.30 %"
    assert found["failure rates (points)"]["Target met"] == "no"
    caption = json.loads((tmp_path / "tableS13.json").read_text(encoding="utf-8"))["caption"]
    assert "1 daily totals are lower limits only and not counted; 1 of them are missed" in caption


@pytest.mark.parametrize("share", [True, False])
def test_estimators_and_both_meanings_of_beta(tmp_path, share):
    row = {"service": "api", "model": "ChatGPT", "day_type": "all", "estimator": "seconds", "width_s": 1200.0,
           "offset_s": 0.0, "resolution_s": 1.0, "windows": 10, "few": 4, "fitted": 6, "rate_per_s": 0.2, "alpha": 0.5,
           "alpha_q1": 0.4, "alpha_q3": 0.7, "beta_scale_s": 10.0, "beta_rate_per_s": 0.1, "cv": 1.41,
           "alpha_ratio": 1.0, "alpha_ratio_p05": 1.0, "alpha_ratio_p95": 1.0, "inside_share": 1.0}  # fmt: skip
    if not share:  # no window has a fit
        row |= dict.fromkeys([name for name in row if name.startswith(("alpha", "beta", "cv", "inside"))])
    (found,) = make("tableS04", tmp_path, gamma_summary=[row])
    assert found["Windows fitted / too few"] == "6 / 4"
    assert found["β, scale (s)"] == ("10" if share else "–")
    assert found["β, rate (1/s)"] == ("0.1" if share else "–")
