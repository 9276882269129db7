"""A small made-up study: one drawing and one table of every kind the paper shows."""

import csv
import json
from pathlib import Path

from burstbench.contracts import SCORECARD, TRACE_CHECK

WIDE = {1, 2, 5, 7, 9, 16, 17}
VERDICTS = ("reproduced", "not reproduced", "by construction", "not testable here")
FACTS = {
    "study": "trial",
    "trace": "twin",
    "trace_files": ["results/trial/trace/trace.parquet"],
    "prompts": "sharegpt_subset",
    "tokenizer": "tokenizer_mistral_v1",
    "engine": "simulator",
    "start": "2023-11-01",
    "days": 61,
}
PARAMETERS = {
    "study": "trial",
    "seed": 7,
    "trace": {"source": "twin", "start": "2023-11-01", "days": 61, "twin": {"rows": 1429737}},
    "characterise": {
        "workday_hours": [8, 22],
        "gamma": {"window_s": 1200, "minimum_gaps": 20, "estimator": "seconds"},
        "bursts": {
            "widths_s": [300, 600],
            "alignment": "aligned",
            "zero_rule": "skip",
            "service": "all",
            "model": "ChatGPT",
        },
        "lengths": {
            "request_bin_tokens": 20,
            "coarse_request_bins": [1, 100, 250],
            "response_bin_tokens": 25,
        },
    },
    "prompts": {"dataset": "sharegpt_subset", "max_tokens": 3072, "buffer_tokens": 24000000},
    "models": ["llama-2-7b-chat", "llama-2-13b-chat"],
    "gpus": ["a800", "a6000"],
    "seeds": [1, 2],
    "plan": {"max_tokens": 1024},
    "experiments": {
        "warmup": {"phases": [{"name": "warmup", "seconds": 1000}]},
        "responses": {
            "phases": [{"name": "responses", "requests": 10000, "alpha": {"kind": "constant", "value": 1.0}}]
        },
        "vary_alpha": {
            "phases": [
                {"name": "warmup", "seconds": 1000},
                {"name": "variation", "requests": 2200, "every": 200, "alpha": {"kind": "quadratic", "extreme": 0.25}},
            ]
        },
    },
    "engine": "simulator",
    "engines": {"simulator": {"timeout": {"kind": "queue", "seconds": 30}, "memory_utilization": 0.9}},
    "metrics": {"interval_s": 10, "bootstrap": 2000},
}


def digest(word: str) -> str:
    return (word.encode().hex() * 64)[:64]


def drawing(number: int) -> str:
    """Return an SVG of the width that figures have: 3.4 or 7 inches."""
    width = 504 if number in WIDE else 244.8
    height = 150 if number < 16 else 320
    bars = "".join(
        f'<rect x="{20 + (width - 40) / 12 * bar:.1f}" y="{height - 20 - 8 * (bar * number % 11)}" '
        f'width="{(width - 40) / 16:.1f}" height="{8 * (bar * number % 11)}" fill="#0072B2"/>'
        for bar in range(12)
    )
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="{width}pt" '
        f'height="{height}pt" viewBox="0 0 {width} {height}">{bars}</svg>\n'
    )


def record(name: str, kind: str, number: str) -> dict:
    return {
        "id": name,
        "title": f"Drawing {number} & <its> title" if kind == "Figure" else f"Contents of table {number}",
        "caption": f"What {kind.lower()} {number} of this trial shows, over all days of the calendar. "
        "Boxes span the quartiles, whiskers 1.5 times as far; both models are drawn.",
        "badge": "twin",
        "facts": {"requests": 1429737, "share": 0.25, "label": "text"},
        "inputs": [{"name": "counts", "path": f"results/trial/characterise/{name}.parquet", "sha256": digest(name)}],
    }


def write_csv(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)


def scorecard_rows() -> list[dict]:
    rows = []
    for claim in range(1, 20):
        for part in range(1 + claim % 3):
            rows.append(
                {
                    "claim": claim,
                    "title": f"Title of claim {claim} & its <models>",
                    "part": f"part {part + 1}",
                    "statement": f"Statement {part + 1} of claim {claim} & its <parts>.",
                    "measured": f"{claim * 1.5:.2f} requests/s (95 % {claim:.2f} to {claim * 2:.2f})",
                    "published": "" if claim % 4 else f"{claim} requests/s",
                    "test": "permutation test over days",
                    "tolerance": "5 %, the usual level",
                    "verdict": VERDICTS[(claim + part) % 4],
                    "input": "twin" if claim < 14 else "simulated server",
                    "evidence": "characterise/periodicity.parquet",
                    "reason": f"because of number {claim}",
                }
            )
    return rows


def check_rows() -> list[dict]:
    def row(table, item, unit, published, found, error, reading_error, clipped=False):
        return dict(
            zip(
                TRACE_CHECK.schema.names,
                (table, item, unit, published, found, error, reading_error, clipped),
                strict=True,
            )
        )

    return [
        row("daily_requests", "2023-11-06 conversation ChatGPT", "requests", 100.0, 104.0, 0.04, 5.0),
        row("daily_requests", "2023-11-07 conversation ChatGPT", "requests", 200.0, 180.0, -0.1, 5.0),
        row("daily_requests", "2023-11-08 api ChatGPT", "requests", 50.0, 500.0, 9.0, 5.0, True),
        row("moments", "share of failures", "1", 0.0178, 0.0178, 0.0, 0.0),
        row("moments", "failed at night", "requests", 0.0, 3.0, None, 1.0),
    ]


def as_columns(rows: list[dict]) -> dict[str, list]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def write_study(folder: Path) -> dict[str, Path]:
    """Write the whole study and return the options that name its files."""
    figures, tables = folder / "figures", folder / "tables"
    figures.mkdir(parents=True)
    tables.mkdir()
    for number in range(1, 18):
        name = f"fig{number:02}"
        (figures / f"{name}.svg").write_text(drawing(number), encoding="utf-8")
        write_csv(figures / f"{name}.csv", [["hour", "requests"], ["0", str(number)], ["1", str(2 * number)]])
        (figures / f"{name}.json").write_text(json.dumps(record(name, "Figure", str(number))), encoding="utf-8")
    contents = {
        "table1": [["Property", "BurstGPT", "MAF1"], ["LLM service", "yes", "no"], ["Failures", "yes", "no"]],
        "table2": [["", "A800", "A6000"], ["GPU", "simulated NVIDIA A800", "simulated NVIDIA RTX A6000"]],
        "table3": [["Model", "GPU", "α", "β (s)", "θ"], ["llama-2-7b-chat", "A800", "0.25", "1", "1.1"]],
    }
    for name, rows in contents.items():
        write_csv(tables / f"{name}.csv", rows)
        (tables / f"{name}.json").write_text(json.dumps(record(name, "Table", name[5:])), encoding="utf-8")
    SCORECARD.write(as_columns(scorecard_rows()), folder / "scorecard.csv")
    TRACE_CHECK.write(as_columns(check_rows()), folder / "check.csv")
    (folder / "parameters.json").write_text(json.dumps(PARAMETERS), encoding="utf-8")
    run = {"experiment": "warmup", "model": "llama-2-7b-chat", "gpu": "a800", "seed": 1, "engine": "simulator"}
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    return {
        "figures": figures,
        "tables": tables,
        "scorecard": folder / "scorecard.csv",
        "check": folder / "check.csv",
        "parameters": folder / "parameters.json",
        "run": folder / "run.json",
    }


def options(study: dict[str, Path], out: Path) -> list[str]:
    """Return the command line's options for a study of `write_study`."""
    words = [word for name, path in study.items() for word in (f"--{name}", str(path))]
    return [*words, "--facts", json.dumps(FACTS), "--out", str(out)]
