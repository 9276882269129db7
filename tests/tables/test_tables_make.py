"""Tables I to III from made-up inputs: their cells, and that Markdown, LaTeX and CSV agree."""

import csv
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from burstbench import contracts
from burstbench.errors import UserError
from burstbench.files import write_json
from burstbench.tables import contents, formats
from burstbench.tables.make import make_table

FACTS = {
    "study": "trial",
    "trace": "twin",
    "trace_files": [],
    "engine": "simulator",
    "prompts": "sharegpt_subset",
    "start": "2023-11-01",
    "days": 61,
}


@pytest.fixture
def failures(tmp_path: Path) -> Path:
    path = tmp_path / "failures.parquet"
    columns = {
        "service": ["conversation", "api", "all"],
        "model": ["ChatGPT", "ChatGPT", "all"],
        "requests": [100, 900, 1000],
        "failed": [6, 9, 15],
        "rate": [0.06, 0.01, 0.015],
        "low": [0.02, 0.005, 0.01],
        "high": [0.1, 0.02, 0.02],
    }
    contracts.FAILURES.write(columns, path)
    return path


@pytest.fixture
def warmup(tmp_path: Path) -> Path:
    path = tmp_path / "summary.parquet"
    metrics = {
        "kv_usage_mean": (0.352, 0.33, 0.374),
        "kv_usage_p10": (0.18, 0.17, 0.19),
        "kv_usage_p90": (0.59, 0.5, 0.6),
        "failure_rate": (0.0, 0.0, 0.0),
    }
    rows = [
        ("warmup", model, gpu, "warmup", -1, alpha, beta, 1.1, metric, "1", *values, 2)
        for model, gpu, alpha, beta in (("llama-2-13b-chat", "a6000", 1.0, 5.0), ("llama-2-7b-chat", "a800", 0.25, 1.0))
        for metric, values in metrics.items()
    ]
    names = [column.name for column in contracts.SUMMARY.columns]
    contracts.SUMMARY.write({name: [row[index] for row in rows] for index, name in enumerate(names)}, path)
    return path


def run_record(path: Path, gpu: str, hardware: object, memory_gib: float = 80) -> Path:
    write_json(path, {"gpu": gpu, "hardware": hardware, "gpu_row": {"memory_gib": memory_gib}})
    return path


def cells(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def test_table1_is_the_papers(tmp_path: Path) -> None:
    make_table("table1", {}, [], {"study": "trial"}, tmp_path / "table1")
    rows = cells(tmp_path / "table1.csv")
    assert rows[0] == ["Property", "BurstGPT", "MAF1", "MAF2", "FastServe"]
    columns = {name: [row[index] for row in rows[1:]] for index, name in enumerate(rows[0])}
    assert columns["BurstGPT"] == ["yes"] * 5
    assert columns["MAF1"] == ["no"] * 5
    assert columns["MAF2"] == ["no", "no", "no", "yes", "no"]
    assert columns["FastServe"] == ["no", "yes", "yes", "no", "no"]
    assert json.loads((tmp_path / "table1.json").read_text(encoding="utf-8"))["badge"] == ""


def test_table1_says_what_the_trace_shows(failures: Path, tmp_path: Path) -> None:
    lengths = tmp_path / "length_counts.parquet"
    columns = {
        "source": ["trace api ChatGPT"] * 3,
        "quantity": ["request", "request", "response"],
        "tokens": [3, 2500, 7],
        "requests": [1, 1, 2],
    }
    contracts.LENGTH_COUNTS.write(columns, lengths)
    make_table("table1", {"failures": failures, "length_counts": lengths}, [], FACTS, tmp_path / "table1")
    found = {row[0]: row[-1] for row in cells(tmp_path / "table1.csv")}
    assert found["Failure requests"] == "yes: 15 of 1,000"
    assert found["LLM services"] == "yes: 2 services, 1 models"
    assert found["Request lengths"] == "yes: 3–2,500 tokens"
    assert found["Response lengths"] == "no"
    assert found["Dynamic burstiness"] == "–"
    record = json.loads((tmp_path / "table1.json").read_text(encoding="utf-8"))
    assert record["badge"] == "twin"
    digest = hashlib.sha256(failures.read_bytes()).hexdigest()
    assert {"name": "failures", "path": str(failures), "sha256": digest} in record["inputs"]


def test_table2_shows_each_hardware_once_beside_the_papers(tmp_path: Path) -> None:
    runs = [
        run_record(tmp_path / "1.json", "a6000", "simulated NVIDIA RTX A6000", 48),
        run_record(tmp_path / "2.json", "a800", "simulated NVIDIA A800-SXM4-80GB"),
        run_record(tmp_path / "3.json", "a800", "simulated NVIDIA A800-SXM4-80GB"),
    ]
    make_table("table2", {}, runs, FACTS, tmp_path / "table2")
    rows = cells(tmp_path / "table2.csv")
    assert rows[0] == ["Hardware", "A800, paper", "A6000, paper", "A800, this study", "A6000, this study"]
    assert rows[1][3:] == ["simulated NVIDIA A800-SXM4-80GB", "simulated NVIDIA RTX A6000"]
    assert rows[2] == ["GPU memory", "80 GB", "48 GB", "80 GB", "48 GB"]
    record = json.loads((tmp_path / "table2.json").read_text(encoding="utf-8"))
    assert record["badge"] == "simulated"
    assert "3 runs (A800 2, A6000 1)" in record["caption"]
    assert [entry["name"] for entry in record["inputs"]] == ["run"] * 3


def test_table2_of_a_measured_run(tmp_path: Path) -> None:
    hardware = {"gpu": "NVIDIA H200", "gpu_memory_gib": 139.8, "gpus": 1, "cpu": "2 × Xeon", "memory_gib": 128}
    run = run_record(tmp_path / "run.json", "h200", hardware)
    make_table("table2", {}, [run], FACTS | {"engine": "vllm"}, tmp_path / "table2")
    rows = cells(tmp_path / "table2.csv")
    assert rows[0] == ["Hardware", "H200, this study"]
    assert [row[1] for row in rows[1:]] == ["NVIDIA H200", "140 GiB", "1", "2 × Xeon", "128 GiB"]
    assert json.loads((tmp_path / "table2.json").read_text(encoding="utf-8"))["badge"] == ""


def test_what_a_measured_run_does_not_say_is_not_made_up() -> None:
    assert contents.hardware({"hardware": {"gpu": "L4"}}) == ("L4", *["not recorded"] * 4)


def test_table3_stands_beside_the_papers_values(warmup: Path, tmp_path: Path) -> None:
    make_table("table3", {"warmup_summary": warmup}, [], FACTS, tmp_path / "table3")
    head, *rows = cells(tmp_path / "table3.csv")
    first, second = (dict(zip(head, row, strict=True)) for row in rows)
    assert (first["Model"], first["GPU"]) == ("llama-2-7b-chat", "A800")
    assert (second["Model"], second["GPU"]) == ("llama-2-13b-chat", "A6000")
    assert first["Mean rate (1/s)"] == "4.00"
    assert second["Mean rate (1/s)"] == "0.20"
    assert second["α, β, θ (paper)"] == "1, 5, 1.1"
    assert second["KV use, mean"] == "35.2 % [33.0, 37.4]"
    assert second["KV use, p10–p90"] == "18–59 %"
    assert second["KV use (paper)"] == "30–40 %"
    assert second["Failed"] == "0.0 % [0.0, 0.0]"


def test_all_formats_hold_the_same_cells(warmup: Path, tmp_path: Path) -> None:
    make_table("table3", {"warmup_summary": warmup}, [], FACTS, tmp_path / "table3")
    rows = cells(tmp_path / "table3.csv")
    markdown = (tmp_path / "table3.md").read_text(encoding="utf-8")
    lines = [line for line in markdown.splitlines() if line.startswith("|") and not line.startswith("|:")]
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in lines] == rows
    latex = (tmp_path / "table3.tex").read_text(encoding="utf-8")
    assert latex.count(r"\\") == len(rows)
    assert all(latex.count(rule) == 1 for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    body = latex.split(r"\toprule")[1].split(r"\bottomrule")[0]
    assert [line.count(" & ") for line in body.splitlines() if "&" in line] == [len(rows[0]) - 1] * len(rows)
    assert latex.isascii()
    assert "[simulated]" in latex
    assert "[simulated]" in markdown


@pytest.mark.parametrize("name", ["table1", "table2", "table3"])
def test_latex_is_balanced(name: str, failures: Path, warmup: Path, tmp_path: Path) -> None:
    tables = {"table1": {"failures": failures}, "table2": {}, "table3": {"warmup_summary": warmup}}[name]
    runs = [run_record(tmp_path / "run_1.json", "a800", "simulated A800 & more_50%")] if name == "table2" else []
    make_table(name, tables, runs, FACTS, tmp_path / name)
    latex = (tmp_path / f"{name}.tex").read_text(encoding="utf-8")
    bare = re.sub(r"\\[\\{}%&$#_]", "", latex.replace("\\\\", ""))
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    begun = re.findall(r"\\begin\{(\S+?)\}", latex)
    assert re.findall(r"\\end\{(\S+?)\}", latex) == begun[::-1]
    # A comment sign may stand only in front of the line that names the package.
    assert [line for line in bare.splitlines() if "%" in line] == [r"% \usepackage{booktabs}"]


def test_latex_compiles_where_there_is_tex(failures: Path, warmup: Path, tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed; the tables' LaTeX is parsed by the tests above")
    make_table("table1", {"failures": failures}, [], FACTS, tmp_path / "table1")
    make_table("table3", {"warmup_summary": warmup}, [], FACTS, tmp_path / "table3")
    signs = formats.latex("signs", "Signs", "All of them.", [["x", "y"], ["".join(formats.LATEX), "a"]])
    (tmp_path / "signs.tex").write_text(signs, encoding="utf-8")
    (tmp_path / "all.tex").write_text(
        r"\documentclass[twocolumn]{article}\usepackage{booktabs}\begin{document}"
        r"\input{table1}\input{table3}\input{signs}\end{document}",
        encoding="utf-8",
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "all.pdf").stat().st_size > 0


def test_latex_text_escapes_each_special_character_once() -> None:
    assert formats.latex_text(r"5 % of a_b & {c} \ #1 $") == (r"5 \% of a\_b \& \{c\} \textbackslash{} \#1 \$")
    assert formats.latex_text("α × β ≥ 1–2") == r"$\alpha$ $\times$ $\beta$ $\geq$ 1--2"


def test_a_bar_in_a_cell_does_not_break_markdown() -> None:
    assert r"a\|b" in formats.markdown("t", "c.", [["x"], ["a|b"]])


@pytest.mark.parametrize(
    ("name", "runs", "message"),
    [
        ("table3", [], "table3: table 'warmup_summary' is missing"),
        ("table2", [], "table2: no run is given"),
        ("table2", ["{}"], "expected a JSON object with the keys 'gpu' and 'hardware'"),
        ("table4", [], "found table 'table4', expected one of table1, table2, table3"),
    ],
)
def test_wrong_inputs_are_named(name: str, runs: list[str], message: str, tmp_path: Path) -> None:
    paths = []
    for text in runs:
        paths.append(tmp_path / "run.json")
        paths[-1].write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        make_table(name, {}, paths, FACTS, tmp_path / name)


def test_the_command_line_makes_the_same_bytes(warmup: Path, tmp_path: Path) -> None:
    files = make_table("table3", {"warmup_summary": warmup}, [], FACTS, tmp_path / "a/table3")
    options = ["--table", f"warmup_summary={warmup}", "--facts", json.dumps(FACTS), "--out", str(tmp_path / "b/table3")]
    subprocess.run([sys.executable, "-m", "burstbench", "tables", "make", "table3", *options], check=True)
    for path in files:
        assert (tmp_path / "b" / path.name).read_bytes() == path.read_bytes()


def test_making_tables_does_not_import_matplotlib() -> None:
    code = "import sys, burstbench.tables.make; print('matplotlib' in sys.modules, 'pandas' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert found.strip() == "False False"
