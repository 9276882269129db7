"""The small study from nothing to the paper, and what a user may do to it on the way."""

import base64
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from burstbench import contracts
from burstbench.layout import (
    FIGURES,
    SIMULATION_FIGURES,
    SIMULATION_TABLES,
    TABLES,
    VALIDATION_FIGURES,
    VALIDATION_TABLES,
)
from pypdf import PdfReader

from . import browser
from .conftest import copy_of_the_repository, environment

pytestmark = pytest.mark.slow(2)


@pytest.fixture
def results(finished):
    return finished.folder / "results/small"


def test_every_figure_table_and_page_is_there(results):
    for name in FIGURES | VALIDATION_FIGURES | SIMULATION_FIGURES:
        for suffix in ("pdf", "svg", "png", "csv", "json"):
            assert (results / f"figures/{name}.{suffix}").stat().st_size > 0
        assert "<image" not in (results / f"figures/{name}.svg").read_text(), "a picture of pixels among the vectors"
    for name in TABLES | VALIDATION_TABLES | SIMULATION_TABLES:
        for suffix in ("md", "tex", "csv", "json"):
            assert (results / f"tables/{name}.{suffix}").stat().st_size > 0
    text = "".join(page.extract_text() for page in PdfReader(results / "paper.pdf").pages)
    page = (results / "report.html").read_text()
    for number in range(1, 18):
        assert f"Figure {number}:" in text.replace("\xa0", " ")
        assert f"fig{number:02d}" in page
    assert "http" not in page.split("<script")[0].split("</head>")[0].replace("http-equiv", "")


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")])
def test_the_page_draws_every_chart_in_a_browser(results, width, scheme):
    with browser.opened(results / "report.html", width, scheme) as page:
        browser.scroll_through(page)
        drawn = browser.painted(page)
        assert len(drawn) >= 17, "16 figures of data and the runs"
        assert min(drawn) > 2000
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "it scrolls sideways"


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_the_page_breaks_no_rule_of_accessibility(results, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    with browser.opened(results / "report.html", width, scheme) as page:
        browser.scroll_through(page)
        page.evaluate("document.querySelectorAll('details').forEach((more, place) => { more.open = place % 8 === 0; })")
        found = axe.run(page)
        assert len(found.response["passes"]) > 20
        broken = [(rule["id"], rule["nodes"][0]["html"][:300]) for rule in found.response["violations"]]
        assert broken == []


def test_every_link_and_control_of_the_page_works(results, tmp_path):
    with browser.opened(results / "report.html") as page:
        browser.scroll_through(page)
        inner = page.evaluate(
            "[...document.querySelectorAll('a[href^=\"#\"]')].map((link) => link.getAttribute('href'))"
        )
        assert len(inner) > 50
        for target in sorted(set(inner)):
            assert page.evaluate("(id) => document.getElementById(id) !== null", target[1:]), target
        files = page.evaluate("[...document.querySelectorAll('a[download]')].map((link) => [link.download, link.href])")
        assert len(files) > 40
        for name, address in files:
            kept = [path.read_bytes() for path in (*results.glob(f"*/{name}"), *results.glob(name))]
            assert base64.b64decode(address.partition(",")[2]) in kept, name
        with page.expect_download() as saved:
            page.locator('a[download="fig08.csv"]').click()
        assert saved.value.path().read_bytes() == (results / "figures/fig08.csv").read_bytes()

        # Each choice of each chart draws something else, or at least something.
        for chart in page.locator(".twin").all():
            selects = chart.locator("select").count()
            for place in range(selects):
                options = chart.locator("select").nth(place).locator("option").count()
                for option in range(min(options, 3)):
                    if place < chart.locator("select").count():
                        chart.locator("select").nth(place).select_option(index=option)
        assert min(browser.painted(page)) > 2000
        for button in page.locator(".controls button:visible").all():
            button.evaluate("(element) => element.click()")
        assert min(browser.painted(page)) > 2000

        shown = "() => [...document.querySelectorAll('tr.part')].filter((row) => row.checkVisibility()).length"
        whole = page.evaluate(shown)
        for verdict in ("reproduced", "not reproduced", "by construction", "not testable here"):
            page.locator(f'.filters [data-verdict="{verdict}"]').evaluate("(button) => button.click()")
            assert page.evaluate(shown) < whole
        page.locator('.filters [data-verdict=""]').evaluate("(button) => button.click()")
        assert page.evaluate(shown) == whole

        page.locator("#find").fill("minimum_gaps")
        assert page.locator("#parameter-table tbody tr:visible").count() == 1

        # Dialog, by mouse and by key.
        page.locator(".enlarge").first.click()
        assert page.locator("dialog[open]").count() == 1
        for button in page.locator("dialog [data-zoom]").all():
            button.click()
        page.keyboard.press("Escape")
        assert page.locator("dialog[open]").count() == 0

        before = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.locator(".theme").click()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
        assert min(browser.painted(page)) > 2000


def test_runs_are_compared_and_charts_read_by_keyboard(results):
    with browser.opened(results / "report.html") as page:
        browser.scroll_through(page)
        # The first two seeds of each cell; the second has no files, and `responses` has none.
        cells = len(list(results.glob("serve/*/*/run.json")))
        assert page.locator("#run-a option").count() == 2 * (cells - 1) + 1
        page.locator("#run-b").select_option("")
        alone = page.locator("#compare tbody tr").first.inner_text()
        assert alone.endswith("–")
        page.locator("#run-b").select_option(index=2)
        table = page.locator("#compare tbody")
        rate = contracts.CELL_METRICS.read(results / "metrics/mirror_api/cells.parquet").to_pylist()
        rate = [row for row in rate if row["metric"] == "arrival_rate" and row["phase"] == "mirrored"]
        words = page.locator("#run-a option:checked").inner_text().lower().split(" · ")
        one = next(row for row in rate if row["model"] in words and row["gpu"] in words)
        shown = table.locator("tr", has_text="arrival rate").locator("td").nth(1).inner_text().split(" [")[0]
        assert float(shown.replace(",", "")) == pytest.approx(one["value"], rel=1e-3)

        chart = page.locator("#fig03 .plot")
        chart.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        assert "median" in page.locator("#fig03 .twin p[aria-live]").inner_text()
        node = page.locator('#graph .node[data-node="figures-fig06"]')
        node.focus()
        page.keyboard.press("Enter")
        assert "gamma_profile.parquet" in page.locator("#node").inner_text()
        assert page.locator('#graph .node[data-node="figures-fig01"].faint').count() == 1
        # From the top, the Tab key reaches the content through the skip link.
        page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        page.reload()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"


def test_the_scorecard_has_a_verdict_for_all_19_claims(results):
    rows = contracts.SCORECARD.read(results / "scorecard.csv").to_pylist()
    assert {row["claim"] for row in rows} == set(range(1, 20))
    for row in rows:
        assert "real" not in row["input"], "nothing here was made from the real trace"
        assert "measured" not in row["input"].replace("not measured", ""), "nothing here was measured on a server"
        for path in row["evidence"].split("; "):
            assert (results / path.split(" ")[0]).exists(), row


def test_what_is_twin_or_simulated_says_so(results):
    for number in range(1, 18):
        record = json.loads((results / f"figures/fig{number:02d}.json").read_text())
        facts = record["facts"]
        expected = [
            word for word in (facts.get("trace"), "simulated" if facts.get("engine") == "simulator" else None) if word
        ]
        assert (record["badge"] or "").split(" · ") == (expected or [""])
    for run in results.glob("serve/*/*/run.json"):
        record = json.loads(run.read_text())
        assert record["simulated"] is True
        assert "simulated" in json.dumps(record["hardware"])


def test_every_table_keeps_its_contract(results):
    checked = 0
    for path in results.rglob("*.parquet"):
        contract = contracts.CONTRACTS.get({"cells": "cell_metrics"}.get(path.stem, path.stem))
        assert contract is not None, f"{path} has no contract"
        contract.read(path)
        checked += 1
    assert checked > 80


def test_snakemakes_own_report_has_every_figure_with_its_caption(finished):
    finished.snakemake("--report", "report.html")
    page = (finished.folder / "report.html").read_text()
    for number in range(1, 18):
        assert f"results/small/figures/fig{number:02d}.svg" in page
    assert page.count("statistical twin") > 0


def test_a_killed_run_is_finished_by_the_same_command_with_the_same_bytes(finished, tmp_path):
    again = copy_of_the_repository(tmp_path)
    targets = [f"results/small/{name}" for name in ("figures/fig17.svg", "figures/fig06.svg", "tables/table3.csv")]
    command = [sys.executable, "-m", "snakemake", *targets, "--configfile", "small.yaml"]
    for seconds in (4, 9):
        with subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment(),
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as run:
            time.sleep(seconds)
            os.killpg(run.pid, signal.SIGKILL)
    again.snakemake(*targets)
    compared = 0
    for path in (tmp_path / "results/small").rglob("*"):
        if path.suffix in {".parquet", ".csv", ".svg", ".json", ".arrow"} and path.name != "parameters.json":
            twin = finished.folder / path.relative_to(tmp_path)
            assert path.read_bytes() == twin.read_bytes(), path
            compared += 1
    assert compared > 100
    assert not list((tmp_path / "results").rglob(".*.part*")), "nothing half written stays"
