import base64
import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import docutils.core
import jinja2
import pytest
import yaml
from burstbench.cli import main
from burstbench.contracts import CELL_METRICS, SUMMARY, TIMELINE
from burstbench.errors import UserError
from burstbench.paper import document as documents
from burstbench.paper import html, interactive
from paper_inputs import FACTS, drawing, options, scorecard_rows, write_csv, write_study

TEMPLATE = Path(__file__).parents[2] / "workflow" / "report" / "report.html.j2"
SCRIPTS = [TEMPLATE.parent / "vendor" / "echarts.min.js", TEMPLATE.with_name("charts.js")]
VOID = {"meta", "link", "img", "input", "br", "wbr", "hr"}


class Page(HTMLParser):
    """Checks that every element is closed in order, and keeps what the tests ask for."""

    def __init__(self, text):
        super().__init__()
        self.open, self.errors, self.ids, self.elements, self.text = [], [], [], [], []
        self.feed(text)
        self.close()
        self.errors += [f"<{tag}> is not closed" for tag in self.open]

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.elements.append((tag, values))
        if "id" in values:
            self.ids.append(values["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.errors.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data):
        if not self.open or self.open[-1] not in {"script", "style"}:
            self.text.append(data)

    def all(self, tag):
        return [values for name, values in self.elements if name == tag]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def source(study, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "report.html"
    main(["paper", "html", "--template", str(TEMPLATE), "--script", *map(str, SCRIPTS), *options(study, out)])
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(source):
    return Page(source)


def collect(study, **changes):
    values = {name: study[name] for name in ("figures", "tables", "scorecard", "parameters", "check")}
    return documents.collect(**{**values, "facts": FACTS, **changes})


def decode(address):
    head, data = address.split(",", 1)
    assert head.endswith(";base64")
    return base64.b64decode(data).decode("utf-8")


def test_the_page_is_well_formed(page):
    assert page.errors == []
    assert len(page.ids) == len(set(page.ids))


def test_it_asks_the_network_for_nothing(page, source):
    for tag, values in page.elements:
        for name in ("src", "srcset", "data", "poster", "action"):
            assert values.get(name, "data:").startswith("data:"), (tag, values)
    for values in page.all("link"):
        assert values["href"].startswith("data:")
    policy = next(v["content"] for v in page.all("meta") if v.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    for style in re.findall(r"<style>(.*?)</style>", source, re.DOTALL):
        assert "url(" not in style
        assert "@import" not in style
    for script in (path.read_text(encoding="utf-8") for path in SCRIPTS):
        assert script in source
        assert not re.search(r"fetch\(|XMLHttpRequest|import\(|WebSocket|eval\(|new Function|</script", script)


def test_every_link_within_the_page_leads_somewhere(page):
    for values in page.all("a"):
        if values["href"].startswith("#"):
            assert values["href"][1:] in page.ids


def test_all_figures_tables_and_claims_are_there(page):
    wanted = {f"fig{number:02}" for number in range(1, 18)} | {"table1", "table2", "table3"}
    wanted |= {f"claim{number}" for number in range(1, 20)}
    assert wanted <= set(page.ids)
    text = " ".join(" ".join(page.text).split())
    for row in scorecard_rows():
        assert row["measured"] in text


def test_pictures_are_the_files_and_have_alternatives(page):
    pictures = [values for values in page.all("img") if values["src"] != "data:,"]
    assert [decode(values["src"]) for values in pictures] == [drawing(number) for number in range(1, 18)]
    for number, values in enumerate(pictures, 1):
        assert values["alt"].startswith(f"Figure {number}: Drawing {number} & <its> title")


def test_what_was_left_out_is_not_asked_for(study, tmp_path):
    facts = FACTS | {"trace": "other", "trace_files": ["mine.csv"]}
    document = collect(study, left_out=["fig14", "fig17", "table3"], facts=facts, check=None)
    html.render(document, TEMPLATE, tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.errors == []
    assert not {"fig14", "fig17", "table3", "reliability"} & set(page.ids)
    assert "fig16" in page.ids
    assert "another trace than BurstGPT: mine.csv" in " ".join(page.text)


def test_every_table_can_be_saved(page, study):
    saved = {values["download"]: values["href"] for values in page.all("a") if "download" in values}
    rows = list(csv.reader(decode(saved["fig09.csv"]).splitlines()))
    assert rows == [["hour", "requests"], ["0", "9"], ["1", "18"]]
    assert decode(saved["scorecard.csv"]) == study["scorecard"].read_text(encoding="utf-8")
    assert decode(saved["check.csv"]) == study["check"].read_text(encoding="utf-8")
    assert json.loads(decode(saved["parameters.json"]))["study"] == "trial"
    assert {f"fig{number:02}.csv" for number in range(1, 18)} | {"table1.csv", "table2.csv", "table3.csv"} <= set(saved)


def test_texts_are_escaped(source):
    assert "<its>" not in source
    assert "<models>" not in source


def test_what_is_not_real_is_marked(page, study, tmp_path):
    assert "This study rests on a statistical twin of the trace" in " ".join(page.text)
    out = tmp_path / "real.html"
    html.render(collect(study, facts={**FACTS, "trace": "real", "engine": "vllm"}, check=None), TEMPLATE, out)
    text = " ".join(Page(out.read_text(encoding="utf-8")).text)
    assert "statistical twin" not in text
    assert "simulated engine" not in text
    assert "No comparison with published numbers was made" in text


def test_the_same_study_gives_the_same_bytes(study, source, tmp_path):
    out = tmp_path / "again.html"
    main(["paper", "html", "--template", str(TEMPLATE), "--script", *map(str, SCRIPTS), *options(study, out)])
    assert out.read_text(encoding="utf-8") == source


def test_landmarks_and_controls_have_names(page):
    tags = [tag for tag, _ in page.elements]
    for landmark in ("header", "nav", "main", "footer", "dialog"):
        assert tags.count(landmark) == 1
    for tag, values in page.elements:
        if values.get("tabindex") == "0" or tag in {"nav", "dialog", "section"}:
            assert values.get("aria-label") or values.get("aria-labelledby"), (tag, values)
        if "aria-labelledby" in values:
            assert values["aria-labelledby"] in page.ids
    assert tags.count("h1") == 1


def luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_letters_stand_out_from_their_ground(source, theme):
    block = re.search(r":root \{(.*?)\}" if theme == "light" else r'"dark"\] \{(.*?)\}', source, re.DOTALL)[1]
    colour = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    pairs = [(ink, ground) for ink in ("ink", "soft", "link") for ground in ("page", "card", "tint")]
    pairs += [(name, f"{name}-fill") for name in ("good", "bad", "made", "none", "mix")] + [("badge-ink", "badge")]
    for ink, ground in pairs:
        light, dark = sorted((luminance(colour[ink]), luminance(colour[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (theme, ink, ground)


def test_a_wrong_template_is_named(study, tmp_path):
    template = tmp_path / "page.j2"
    template.write_text("{{ nothing.like.this }}", encoding="utf-8")
    with pytest.raises(UserError, match=r"page\.j2.*'nothing' is undefined"):
        html.render(collect(study), template, tmp_path / "page.html")
    with pytest.raises(UserError, match="no such file"):
        html.render(collect(study), tmp_path / "none.j2", tmp_path / "page.html")


@pytest.mark.parametrize("source", ["twin", "real"])
@pytest.mark.parametrize("name", ["workflow", "figure", "table", "scorecard", "paper"])
def test_captions_state_the_parameters(name, source):
    config = yaml.safe_load((TEMPLATE.parents[2] / "config" / "study.yaml").read_text(encoding="utf-8"))
    config["trace"]["source"] = source
    config["engine"] = "simulator" if source == "twin" else "vllm"
    config["metrics"]["interval_s"] = 77
    text = (TEMPLATE.parent / f"{name}.rst").read_text(encoding="utf-8")
    caption = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(text)
    names = {"figure": documents.FIGURES, "table": documents.TABLES}.get(name, [""])
    for exhibit in names:
        job = SimpleNamespace(
            config=config,
            wildcards=SimpleNamespace(figure=exhibit, table=exhibit),
            input=["results/default/characterise/failures.parquet", "config/figures.yaml"],
        )
        said = caption.render(snakemake=job)
        docutils.core.publish_string(said, writer="null", settings_overrides={"halt_level": 2, "report_level": 5})
        assert "**default**" in said
        assert ("**" in said.replace("**default**", "")) == (source == "twin" and exhibit != "fig15")
        if exhibit == "fig16":
            assert "77 s" in said
        if name == "figure":
            assert "- ``results/default/characterise/failures.parquet``" in said
            assert "config/figures.yaml" not in said


def test_the_graph_of_provenance_groups_jobs_and_sums_their_times():
    def job(rule, outputs, inputs, seconds):
        return {"rule": rule, "outputs": outputs, "inputs": inputs, "seconds": seconds}

    cells = [f"results/x/plan/warmup/cell_s{seed}/plan.parquet" for seed in (1, 2)]
    jobs = [
        job("fetch_tokens", ["data/raw/tokens/file.json"], [], 2.0),
        job("prompts_pool", ["results/x/prompts/pool.arrow"], ["data/raw/tokens/file.json"], 3.0),
        *(job("plan_make", [path], ["results/x/prompts/pool.arrow"], 1.25) for path in cells),
        job("figure", ["results/x/figures/fig01.csv"], ["config/figures.yaml", cells[1]], 0.5),
    ]
    files = {path: {"sha256": path.upper()} for one in jobs for path in one["outputs"] + one["inputs"]}
    graph = interactive.graph(jobs, files, ("report.html",))
    nodes = {node["id"]: node for node in graph["nodes"]}
    assert list(nodes) == ["sources-tokens", "prompts-pool", "plan-warmup", "figures-fig01", "paper-report-html"]
    plan = nodes["plan-warmup"]
    assert (plan["jobs"], plan["seconds"], plan["needs"]) == (2, 2.5, ["prompts-pool"])
    assert [file["path"] for file in plan["files"]] == cells
    assert nodes["figures-fig01"]["inputs"][0] == {"path": "config/figures.yaml", "sha256": "CONFIG/FIGURES.YAML"}
    assert (nodes["paper-report-html"]["needs"], nodes["paper-report-html"]["seconds"]) == (["figures-fig01"], None)
    assert {(edge["from"], edge["to"]) for edge in graph["edges"]} == {
        ("sources-tokens", "prompts-pool"),
        ("prompts-pool", "plan-warmup"),
        ("plan-warmup", "figures-fig01"),
        ("figures-fig01", "paper-report-html"),
    }
    assert max(node["x"] for node in nodes.values()) <= graph["width"] - graph["node_width"]


def test_runs_carry_the_numbers_of_their_tables(tmp_path):
    key = {"experiment": "warmup", "model": "m", "gpu": "g"}
    timeline = [
        key | {"seed": 1, "time_s": time, "width_s": 10.0, "phase": phase, "alpha": 1.0, "beta": 1.0, "arrivals": 4}
        | {"completed": 3, "failed": 1, "failure_rate": 0.25, "latency_s": None, "token_latency_s": None}
        | {"throughput_tokens_per_s": 123.456, "kv_usage": 0.31, "running": 2.0, "waiting": 0.0}
        for time, phase in ((0.0, "warmup"), (10.0, "variation"))
    ]  # fmt: skip
    step = key | {"phase": "variation", "step": 0, "alpha": 0.5, "beta": 1.0, "theta": 1.1, "unit": "s"}
    cells = [step | {"seed": 1, "metric": "latency_mean", "value": 2.5, "n": 3}]
    summary = [step | {"metric": "latency_mean", "mean": 2.0, "low": 1.5, "high": 2.5, "seeds": 2}]
    tables = {}
    for name, contract, rows in (
        ("timeline", TIMELINE, timeline),
        ("cells", CELL_METRICS, cells),
        ("summary", SUMMARY, summary),
    ):
        tables[f"warmup_{name}"] = tmp_path / f"{name}.parquet"
        contract.write({column: [row[column] for row in rows] for column in rows[0]}, tables[f"warmup_{name}"])
    runs = interactive.runs(tables)
    (cell,) = runs["cells"]
    assert (cell["time"], cell["phases"]) == ([5, 15], [["warmup", 0], ["variation", 10]])
    assert (cell["kv_usage"], cell["latency_s"], cell["failed"]) == ([31, 31], [None, None], [1, 1])
    assert cell["throughput_tokens_per_s"] == [123.5, 123.5]
    assert runs["metrics"] == [["latency_mean", "s"]]
    (shown,) = cell["steps"]
    assert (shown["label"], shown["values"]) == ("variation, step 1", [[2.5, 1.5, 2.5]])


def test_a_figure_without_views_of_its_own_gets_them_from_its_columns(tmp_path):
    path = tmp_path / "more.csv"
    write_csv(path, [["gpu", "load", "error", "note"], ["a800", "1", "0.5", ""], ["a6000", "2", "-0.5", ""]])
    views = interactive.views({"validation_x": path, "fig15": path})
    (view,) = views.pop("validation_x")
    assert views == {}
    assert (view["x"], view["y"], [choice["column"] for choice in view["choose"]]) == ("load", "error", ["gpu"])
    assert view["points"]
