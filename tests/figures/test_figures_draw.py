"""Every figure is drawn from made-up tables; its files, numbers, record and layout are looked at."""

import csv
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import figure_factory as factory
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from burstbench import contracts
from burstbench.errors import UserError
from burstbench.figures import calendar, hourly, lengths, runs
from burstbench.figures import style as looks
from burstbench.figures.draw import FIGURES as OF_THE_PAPER
from burstbench.figures.draw import SUPPLEMENT, draw_figure
from burstbench.figures.style import Style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

FIGURES = OF_THE_PAPER | SUPPLEMENT
NAMES = sorted(FIGURES)


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return factory.write_tables(tmp_path_factory.mktemp("tables"))


def draw(figure: str, tables: dict[str, Path], out: Path, facts: dict | None = None) -> dict[str, Path]:
    files = draw_figure(
        figure,
        factory.tables_of(figure, tables),
        facts or factory.FACTS,
        factory.LOOK,
        factory.MATPLOTLIBRC,
        out / figure,
    )
    return {path.suffix[1:]: path for path in files}


@pytest.fixture(scope="session")
def pictures() -> dict[str, Figure]:
    """The figures that `drawn` has saved, with their layout solved."""
    return {}


@pytest.fixture(scope="session")
def drawn(
    tables: dict[str, Path], pictures: dict[str, Figure], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Path]]:
    folder = tmp_path_factory.mktemp("figures")
    save = looks.save

    def keep(figure: Figure, out: Path, *rest: object) -> None:
        save(figure, out, *rest)
        pictures[out.name] = figure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(looks, "save", keep)
        return {figure: draw(figure, tables, folder) for figure in NAMES}


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_there_are_seventeen_figures_and_one_more() -> None:
    assert [*(f"fig{number:02d}" for number in range(1, 18)), "figS01"] == NAMES


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        ("fig02", "read to within 31 requests (ChatGPT), 31 requests (GPT-4)"),
        ("fig03", "read to within 0.6 requests (ChatGPT), 0.6 requests (GPT-4)"),
        ("fig11", "read to within 11,130 tokens (ChatGPT), 2,492 tokens (GPT-4)"),
        ("fig08", "read to within 1 tokens (ChatGPT), 1 tokens (GPT-4)"),
    ],
)
def test_captions_say_how_exactly_published_values_could_be_read(figure: str, text: str, drawn: dict) -> None:
    assert text in json.loads(drawn[figure]["json"].read_text(encoding="utf-8"))["caption"]


def test_every_published_number_is_drawn_but_lower_limits(drawn: dict, tables: dict) -> None:
    rows = pq.read_table(tables["trace_check"]).to_pylist()
    found = read_csv(drawn["figS01"]["csv"])
    assert {row["item"] for row in found} == {row["item"] for row in rows if not row["clipped"]}
    errors = {row["item"]: float(row["error"]) for row in found}
    assert errors["requests: all"] == pytest.approx(3)


def test_runs_of_seconds_are_drawn_on_their_grid(tables: dict, tmp_path: Path) -> None:
    given = dict(factory.tables_of("fig16", tables))
    for name in ("mirror_conversation_timeline", "mirror_api_timeline"):
        table = pq.read_table(tables[name])
        given[name] = tmp_path / f"{name}.parquet"
        pq.write_table(table.filter(pc.less(table["time_s"], 30)), given[name])
    pictures = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(looks, "save", lambda picture, *_: pictures.append(picture))
        draw_figure("fig16", given, factory.FACTS, factory.LOOK, factory.MATPLOTLIBRC, tmp_path / "fig16")
    for panel in pictures[0].axes:
        assert panel.lines
        assert panel.get_xlim() == (0, 30)
        assert all(5 <= x <= 25 for line in panel.lines for x in line.get_xdata() if len(line.get_xdata()) > 2)
        assert any(len(line.get_xdata()) == 3 for line in panel.lines), panel.get_ylabel()


@pytest.mark.parametrize("figure", ["fig01", "fig03", "fig04", "fig10", "fig14"])
def test_a_short_trace_of_one_service_is_drawn(figure: str, tables: dict, tmp_path: Path) -> None:
    """One day of an API with one model, most hours of it empty: as a user's own trace may be."""
    given = {}
    for name in FIGURES[figure][0].required:
        table = pq.read_table(tables[name])
        kept = pc.equal(table["service"], "api")
        kept = pc.and_(kept, pc.equal(table["model"], "GPT-4"))
        if "day" in table.column_names:
            kept = pc.and_(kept, pc.equal(table["day"], 1))
        if "hour" in table.column_names:
            kept = pc.and_(kept, pc.less(table["hour"], 3))
        given[name] = tmp_path / f"{name}.parquet"
        contracts.CONTRACTS[name].write(table.filter(kept), given[name])
    draw_figure(figure, given, factory.FACTS | {"days": 1}, factory.LOOK, factory.MATPLOTLIBRC, tmp_path / figure)
    shown = (tmp_path / f"{figure}.svg").read_text(encoding="utf-8")
    assert (figure in {"fig01", "fig03", "fig10"}) == ("no such requests in this trace" in shown)


@pytest.mark.parametrize("figure", NAMES)
def test_files_are_small_and_the_size_of_a_column(figure: str, drawn: dict) -> None:
    files = drawn[figure]
    assert files["pdf"].read_bytes().startswith(b"%PDF")
    assert files["svg"].read_text(encoding="utf-8").startswith("<?xml")
    assert files["png"].stat().st_size < 400_000
    assert files["svg"].stat().st_size < 600_000
    with Image.open(files["png"]) as picture:
        assert picture.width in {1020, 2100}
        assert picture.height <= 9 * 300


@pytest.mark.parametrize("figure", NAMES)
def test_record_names_inputs_with_checksums_and_marks_what_is_not_real(figure: str, drawn: dict, tables: dict) -> None:
    record = json.loads(drawn[figure]["json"].read_text(encoding="utf-8"))
    assert {"id", "title", "caption", "inputs", "facts", "badge"} == record.keys()
    assert record["id"] == figure
    wanted = {name: str(path) for name, path in factory.tables_of(figure, tables).items()}
    assert {entry["name"]: entry["path"] for entry in record["inputs"]} == wanted
    for entry in record["inputs"]:
        assert entry["sha256"] == hashlib.sha256(Path(entry["path"]).read_bytes()).hexdigest()
    of_trace = {"figS01", *(f"fig{number:02d}" for number in (*range(1, 15), 16))}
    of_engine = {"fig07", "fig08", "fig09", "fig16", "fig17"}
    expected = [word for word, of in (("twin", of_trace), ("simulated", of_engine)) if figure in of]
    assert record["badge"] == " · ".join(expected)
    if figure in of_trace:
        assert "statistical twin" in record["caption"]
        assert "1 November 2023 to 31 December 2023 (61 days" in record["caption"]
    if figure in {"fig07", "fig08", "fig09"}:
        assert "Llama-2 itself produced none of them" in record["caption"]
    if figure != "fig15":
        assert "n: " in record["caption"]
        assert "Filter: " in record["caption"]


@pytest.mark.parametrize("figure", ["fig02", "fig07", "fig15"])
def test_same_inputs_give_the_same_bytes_in_another_process(
    figure: str, tables: dict, drawn: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [f"--table={name}={path}" for name, path in factory.tables_of(figure, tables).items()]
    look = ["--style", str(factory.LOOK), "--matplotlibrc", str(factory.MATPLOTLIBRC), "--facts", factory.facts_text()]
    command = [sys.executable, "-m", "burstbench", "figures", "draw", figure, *options, *look, "--out"]
    monkeypatch.setenv("PYTHONHASHSEED", "5")
    subprocess.run([*command, str(tmp_path / figure)], check=True, capture_output=True)
    for suffix, path in drawn[figure].items():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), suffix


def test_no_file_holds_a_date(drawn: dict) -> None:
    for files in drawn.values():
        assert b"CreationDate" not in files["pdf"].read_bytes()
        assert "dc:date" not in files["svg"].read_text(encoding="utf-8")


def test_drawing_imports_neither_pandas_nor_scipy_nor_pyplot() -> None:
    code = (
        "import sys, burstbench.figures.draw; "
        "print([name for name in ('pandas', 'scipy', 'matplotlib.pyplot') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert found.strip() == "[]"


# Wrong inputs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("figure", [name for name in NAMES if FIGURES[name][0].required])
def test_a_missing_table_is_named(figure: str, tables: dict, tmp_path: Path) -> None:
    given = factory.tables_of(figure, tables)
    missing = next(iter(FIGURES[figure][0].required))
    del given[missing]
    with pytest.raises(UserError, match=f"{figure}: table '{missing}' is missing"):
        draw_figure(figure, given, factory.FACTS, factory.LOOK, factory.MATPLOTLIBRC, tmp_path / figure)
    assert not list(tmp_path.iterdir())


def test_published_tables_are_optional(tables: dict, tmp_path: Path) -> None:
    for figure in ("fig01", "fig04"):
        given = {name: tables[name] for name in FIGURES[figure][0].required}
        draw_figure(figure, given, factory.FACTS, factory.LOOK, factory.MATPLOTLIBRC, tmp_path / figure)
        assert "published" not in json.loads((tmp_path / f"{figure}.json").read_text(encoding="utf-8"))[
            "caption"
        ].replace("generated from published numbers", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"daily_count": "x.parquet"}, "table 'daily_count' is not used here"),
        ({"daily_counts": "nowhere.parquet"}, "nowhere.parquet: no such file"),
    ],
)
def test_a_wrong_table_is_named(change: dict, message: str, tables: dict, tmp_path: Path) -> None:
    given = factory.tables_of("fig01", tables) | {name: Path(path) for name, path in change.items()}
    with pytest.raises(UserError, match=message):
        draw_figure("fig01", given, factory.FACTS, factory.LOOK, factory.MATPLOTLIBRC, tmp_path / "fig01")


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"trace": None}, "trace: found None, expected one of real, twin"),
        ({"engine": "sglang"}, "engine: found 'sglang'"),
        ({"start": "yesterday"}, "start 'yesterday'"),
    ],
)
def test_wrong_facts_are_named(facts: dict, message: str, tables: dict, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        draw("fig07", tables, tmp_path, factory.FACTS | facts)


def test_a_missing_fact_is_named(tables: dict, tmp_path: Path) -> None:
    facts = {name: value for name, value in factory.FACTS.items() if name != "days"}
    with pytest.raises(UserError, match="fig05: --facts: key 'days' is missing"):
        draw("fig05", tables, tmp_path, facts)


def test_an_unknown_figure_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found figure 'fig18', expected one of fig01"):
        draw_figure("fig18", {}, factory.FACTS, factory.LOOK, factory.MATPLOTLIBRC, tmp_path / "fig18")


def test_a_missing_style_key_is_named_with_its_file(tables: dict, tmp_path: Path) -> None:
    look = tmp_path / "figures.yaml"
    look.write_text(factory.LOOK.read_text(encoding="utf-8").replace("published:", "publisht:"), encoding="utf-8")
    with pytest.raises(UserError, match=r"figures.yaml: key 'published' is missing"):
        draw_figure(
            "fig08", factory.tables_of("fig08", tables), factory.FACTS, look, factory.MATPLOTLIBRC, tmp_path / "fig08"
        )


# Origins --------------------------------------------------------------------------------------------------------------


def test_a_real_trace_and_a_real_engine_carry_no_mark(tables: dict, tmp_path: Path) -> None:
    facts = factory.FACTS | {
        "trace": "real",
        "engine": "vllm",
        "trace_files": ["data/raw/burstgpt_1/BurstGPT_1.csv"],
        "trace_sha256": "4bb3783693d0a435",
    }
    record = json.loads(draw("fig07", tables, tmp_path, facts)["json"].read_text(encoding="utf-8"))
    assert record["badge"] == ""
    assert "BurstGPT_1.csv (SHA-256 4bb3783693d0…)" in record["caption"]
    assert "produced none" not in record["caption"]


# Numbers --------------------------------------------------------------------------------------------------------------


def test_fig01_holds_the_daily_counts_beside_the_published(drawn: dict, tables: dict) -> None:
    counts = [row for row in pq.read_table(tables["daily_counts"]).to_pylist() if row["service"] == "conversation"]
    found = read_csv(drawn["fig01"]["csv"])
    assert len(found) == len(counts) == 61 * 2
    by_key = {(row["date"], row["model"]): row for row in found}
    for row in counts:
        assert int(by_key[row["date"], row["model"]]["requests"]) == row["requests"]
    assert by_key["2023-11-06", "ChatGPT"]["published"] == "2077"
    assert by_key["2023-11-05", "ChatGPT"]["published"] == ""


def test_fig03_boxes_are_those_of_workdays_with_requests(drawn: dict, tables: dict) -> None:
    rows = pq.read_table(tables["hourly_counts"]).to_pylist()
    values = sorted(
        row["requests"]
        for row in rows
        if (row["service"], row["model"], row["hour"]) == ("conversation", "GPT-4", 15)
        and row["weekday"] <= 5
        and row["requests"] > 0
    )
    found = next(row for row in read_csv(drawn["fig03"]["csv"]) if (row["model"], row["hour"]) == ("GPT-4", "15"))
    assert int(found["days"]) == len(values)
    for name, q in (("q1", 0.25), ("median", 0.5), ("q3", 0.75)):
        place = q * (len(values) - 1)
        below = values[int(place)]
        above = values[min(int(place) + 1, len(values) - 1)]
        assert float(found[name]) == pytest.approx(below + (place % 1) * (above - below))
    assert found["published_median"] == "85"


def test_box_of_hand_made_numbers() -> None:
    stats = hourly.box(np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 100]))
    assert [stats[key] for key in ("whislo", "q1", "med", "q3", "whishi")] == [1, 3, 5, 7, 8]
    assert stats["fliers"].tolist() == [100]


def test_fig05_bars_and_definitions_are_the_tables(drawn: dict, tables: dict) -> None:
    found = read_csv(drawn["fig05"]["csv"])
    bars = {
        (int(row["width_s"]), int(row["ratio"])): float(row["per_day"]) for row in found if row["panel"] == "ratios"
    }
    wanted = pq.read_table(tables["burst_ratios"]).to_pylist()
    assert bars == {(row["width_s"], row["ratio"]): row["per_day"] for row in wanted}
    definitions = [row for row in found if row["panel"] == "definitions"]
    assert len(definitions) == 2 * 2 * 2 * 3
    assert {row["published"] for row in definitions} == {"65", "38"}
    caption = json.loads(drawn["fig05"]["json"].read_text(encoding="utf-8"))["caption"]
    assert "5 min: aligned windows, empty ones skipped, all services, ChatGPT" in caption


def test_fig06_holds_both_readings_of_beta(drawn: dict, tables: dict) -> None:
    found = read_csv(drawn["fig06"]["csv"])
    scale = {row["window_s"]: float(row["median"]) for row in found if row["parameter"] == "beta_scale_s"}
    rate = {row["window_s"]: float(row["median"]) for row in found if row["parameter"] == "beta_rate_per_s"}
    assert scale.keys() == rate.keys()
    assert len(scale) == 40  # of 42 windows two hold no fit
    for window, value in scale.items():
        assert value * rate[window] == pytest.approx(1)


def test_fig07_histogram_and_fits_add_up_to_all_requests(drawn: dict) -> None:
    found = read_csv(drawn["fig07"]["csv"])
    for source in ("trace conversation ChatGPT", "run llama-2-13b-chat a800"):
        for quantity in ("request", "response"):
            of = [row for row in found if (row["source"], row["quantity"]) == (source, quantity)]
            for curve in {row["curve"] for row in of}:
                total = sum(float(row["requests"]) for row in of if row["curve"] == curve)
                assert total == pytest.approx(8000, rel=1e-9)
            assert {"data", "zipf"} <= {row["curve"] for row in of}


def test_log_probability_of_hand_made_parameters() -> None:
    zipf = lengths.log_probability("zipf", {"theta": 1.0}, 4)
    assert zipf == pytest.approx(np.array([12, 6, 4, 3]) / 25)
    assert lengths.log_probability("exponential", {"rate": np.log(2)}, 3) == pytest.approx(np.array([4, 2, 1]) / 7)


def test_density_is_share_per_decade() -> None:
    # All of 10 requests between 9.5 and 94.5: 10 / 10 over log10(94.5 / 9.5) decades.
    found = lengths.density(np.array([10, 50, 94]), np.array([3, 5, 2]), np.array([10, 95]))
    assert found == pytest.approx([1 / 0.99776], rel=1e-4)


def test_fig08_holds_bins_and_published_marks(drawn: dict, tables: dict) -> None:
    found = read_csv(drawn["fig08"]["csv"])
    bins = pq.read_table(tables["response_by_request"]).to_pylist()
    wanted = next(row for row in bins if row["source"] == "trace conversation GPT-4" and row["request_low"] == 100)
    row = next(
        row
        for row in found
        if (row["source"], row["curve"], row["request_low"]) == ("trace conversation GPT-4", "here", "100")
    )
    assert float(row["median"]) == wanted["response_median"]
    assert float(row["p95"]) == wanted["response_p95"]
    published = [row for row in found if row["curve"] == "published"]
    assert {row["source"] for row in published} == {"trace conversation ChatGPT", "trace conversation GPT-4"}
    assert all(float(row["request_low"]) % 100 == 0 for row in published)


def test_fig09_ridges_hold_every_bin(drawn: dict, tables: dict) -> None:
    found = read_csv(drawn["fig09"]["csv"])
    total = sum(int(row["requests"]) for row in found if row["source"].startswith("run "))
    assert total == sum(row["n"] for row in pq.read_table(tables["responses_response_bins"]).to_pylist())


def test_fig14_holds_cells_pools_and_days(drawn: dict, tables: dict) -> None:
    found = read_csv(drawn["fig14"]["csv"])
    rates = {(row["service"], row["model"]): row["rate"] for row in pq.read_table(tables["failures"]).to_pylist()}
    shown = {(row["service"], row["model"]): float(row["rate"]) for row in found if row["day"] == "0"}
    assert shown == pytest.approx(rates)
    assert len([row for row in found if row["day"] != "0"]) == 61 * 4


def test_fig06_of_a_trace_without_chatgpt_is_of_the_cell_with_most_fits(tables: dict, tmp_path: Path) -> None:
    rows = pyarrow_rows(tables["gamma_profile"])
    one = {name: values[:2] for name, values in rows.items()}
    many = one | {"service": ["api", "api"], "model": ["code", "code"], "windows": [9, 9]}
    few = one | {"service": ["api", "api"], "model": ["chat", "chat"], "windows": [1, 1]}
    path = tmp_path / "gamma_profile.parquet"
    contracts.GAMMA_PROFILE.write({name: few[name] + many[name] for name in rows}, path)
    files = draw("fig06", {"gamma_profile": path}, tmp_path)
    assert {(row["service"], row["model"]) for row in read_csv(files["csv"])} == {("api", "code")}
    assert "gaps between code API requests" in json.loads(files["json"].read_text(encoding="utf-8"))["caption"]


def test_lengths_of_a_trace_without_conversation_are_of_what_there_is(tables: dict, tmp_path: Path) -> None:
    given = factory.tables_of("fig08", tables)
    table = pq.read_table(given["response_by_request"])
    kept = table.filter(pc.equal(table["source"], "trace api ChatGPT"))
    given["response_by_request"] = tmp_path / "response_by_request.parquet"
    contracts.RESPONSE_BY_REQUEST.write(kept, given["response_by_request"])
    draw_figure("fig08", given, factory.FACTS, factory.LOOK, factory.MATPLOTLIBRC, tmp_path / "fig08")
    assert "trace api ChatGPT" in {row["source"] for row in read_csv(tmp_path / "fig08.csv")}
    assert "API log" in json.loads((tmp_path / "fig08.json").read_text(encoding="utf-8"))["caption"]


def test_smooth_weights_rates_by_requests_and_skips_what_is_unknown() -> None:
    nan = np.nan
    columns = {
        "time_s": np.array([0.0, 10, 20, 30]),
        "width_s": np.full(4, 10.0),
        "failure_rate": np.array([0.5, 0.0, nan, nan]),
        "arrivals": np.array([2, 6, 0, 0]),
        "kv_usage": np.array([0.1, 0.3, 0.5, nan]),
    }
    time, rate = runs.smooth(columns, "failure_rate", "arrivals", 20)
    assert time.tolist() == [10, 30]
    assert rate[0] == pytest.approx(1 / 8)
    assert np.isnan(rate[1])
    assert runs.smooth(columns, "kv_usage", "", 20)[1] == pytest.approx([0.2, 0.5])
    # A window starts where the warm-up ends: [-10, 10), [10, 30), [30, 50).
    assert runs.smooth(columns, "kv_usage", "", 20, start_s=10)[1][:2] == pytest.approx([0.1, 0.4])


def test_fig17_holds_the_summary_of_every_step(drawn: dict, tables: dict) -> None:
    found = read_csv(drawn["fig17"]["csv"])
    wanted = {
        (row["experiment"], row["model"], row["gpu"], row["phase"], row["step"], row["metric"]): row["mean"]
        for name in ("alpha", "beta", "theta")
        for row in pq.read_table(tables[f"vary_{name}_summary"]).to_pylist()
        if row["metric"] in {metric for metric, _, _ in runs.SUMMARY_ROWS}
        and (row["step"] >= 0 or row["phase"] == "warmup")
    }
    keys = ("experiment", "model", "gpu", "phase", "step", "metric")
    shown = {}
    for row in found:
        key = tuple(int(row[name]) if name == "step" else row[name] for name in keys)
        shown[key] = float(row["mean"]) if row["mean"] else None
    assert shown == wanted
    assert None in shown.values()


@pytest.mark.parametrize(("engine", "why"), [("endpoint", "this engine"), ("simulator", "no values")])
def test_a_panel_without_values_says_why(engine: str, why: str, tables: dict, tmp_path: Path) -> None:
    """A server that is not ours tells no engine steps, so that no tokens can be counted in them."""
    given = factory.tables_of("fig17", tables)
    for name, path in given.items():
        table = pq.read_table(path)
        given[name] = tmp_path / f"{name}.parquet"
        kept = table.filter(pc.not_equal(table["metric"], "throughput_tokens"))
        contracts.SUMMARY.write(kept, given[name])
    facts = factory.FACTS | {"engine": engine}
    draw_figure("fig17", given, facts, factory.LOOK, factory.MATPLOTLIBRC, tmp_path / "fig17")
    # The made-up tables have no standard deviation either: two rows of three panels.
    assert (tmp_path / "fig17.svg").read_text(encoding="utf-8").count(why) == 6


@pytest.mark.parametrize(
    ("found", "published", "clipped", "text"),
    [
        (103, 100, False, "+3 %"),
        (90, 100, False, "−10 %"),
        (100, 100, False, "±0 %"),
        (40_000, 27_930, True, "≥"),
        (20_000, 27_930, True, "−28 %"),
        (0, 0, False, "0"),
        (5000, 31, False, "×161"),
    ],
)
def test_difference_of_a_cell(found: float, published: float, clipped: bool, text: str) -> None:
    assert calendar.difference_text(found, published, clipped) == text


# Layout ---------------------------------------------------------------------------------------------------------------


def shown_texts(picture: Figure) -> list[Text]:
    """All texts that are drawn: of tick labels only those of ticks within their axis."""
    ticks, of_ticks = set(), set()
    for axes in picture.findobj(Axes):
        for axis in (axes.xaxis, axes.yaxis):
            for tick in (*axis.majorTicks, *axis.minorTicks):
                of_ticks |= {tick.label1, tick.label2}
            if axes.axison and axis.get_visible():
                ticks |= {text for tick in axis._update_ticks() for text in (tick.label1, tick.label2)}
    texts = [text for text in picture.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return [text for text in texts if text not in of_ticks or text in ticks]


@pytest.mark.parametrize("figure", NAMES)
def test_no_text_is_cut_or_lies_on_another_or_is_too_small(figure: str, drawn: dict, pictures: dict) -> None:
    check_texts(pictures[figure])


# Stacked in one column, in two, with a shared axis, and panels that stay beside each other.
@pytest.mark.parametrize("figure", ["fig03", "fig05", "fig07", "fig08", "fig16"])
def test_a_single_column_holds_a_figure_legibly(figure: str, tables: dict, tmp_path: Path) -> None:
    look = tmp_path / "figures.yaml"
    look.write_text(factory.LOOK.read_text(encoding="utf-8").replace("column: mixed", "column: single"), "utf-8")
    pictures = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(looks, "save", lambda picture, *_: pictures.append(picture))
        draw_figure(
            figure, factory.tables_of(figure, tables), factory.FACTS, look, factory.MATPLOTLIBRC, tmp_path / figure
        )
    picture = pictures[0]
    picture.draw_without_rendering()
    assert picture.get_size_inches()[0] == pytest.approx(3.4)
    check_texts(picture)


def test_a_column_that_is_none_is_named(tmp_path: Path) -> None:
    look = tmp_path / "figures.yaml"
    look.write_text(factory.LOOK.read_text(encoding="utf-8").replace("column: mixed", "column: triple"), "utf-8")
    with pytest.raises(UserError, match="'column': found 'triple', expected one of mixed, single, double"):
        _ = Style.read(look).column


def check_texts(picture: Figure) -> None:
    renderer = picture.canvas.get_renderer()
    width, height = picture.canvas.get_width_height()
    slack = 0.004 * width
    texts = shown_texts(picture)
    assert min(text.get_fontsize() for text in texts) >= 5.5
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts]
    for text, box in boxes:
        assert box.x0 >= -slack, text
        assert box.x1 <= width + slack, text
        assert box.y0 >= -slack, text
        assert box.y1 <= height + slack, text
    for index, (first, a) in enumerate(boxes):
        for second, b in boxes[index + 1 :]:
            across = min(a.x1, b.x1) - max(a.x0, b.x0)
            down = min(a.y1, b.y1) - max(a.y0, b.y0)
            assert across <= slack or down <= slack, f"{first!r} lies on {second!r}"


def test_the_mark_stands_in_the_upper_right_corner(drawn: dict, pictures: dict) -> None:
    for figure, picture in pictures.items():
        marks = [text for text in picture.texts if text.get_gid() == "mark"]
        badge = json.loads(drawn[figure]["json"].read_text(encoding="utf-8"))["badge"]
        assert [text.get_text() for text in marks] == ([badge] if badge else [])
        for text in marks:
            box = text.get_window_extent(picture.canvas.get_renderer())
            width, height = picture.canvas.get_width_height()
            assert box.x1 > 0.97 * width
            assert box.y1 > 0.93 * height


# Colours --------------------------------------------------------------------------------------------------------------

MACHADO = {  # Machado et al. 2009, severity 1: linear RGB as seen by deuteranopes and protanopes
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
}


def lab(colour: str, seen: str = "") -> np.ndarray:
    """CIE L*a*b* (D65) of a colour."""
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    if seen:
        linear = np.clip(np.array(MACHADO[seen]) @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    f = np.cbrt(xyz / np.array([0.9505, 1, 1.089]))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("group", ["models", "gpus", "widths"])
def test_neighbouring_colours_stay_apart_in_grey_and_for_colour_blind_readers(group: str) -> None:
    known = Style.read(factory.LOOK).get(group)
    pairs = (
        [("ChatGPT", "GPT-4"), ("llama-2-7b-chat", "llama-2-13b-chat")] if group == "models" else [("a800", "a6000")]
    )
    if group == "widths":
        pairs = [(0, 1), (1, 2)]
    for first, second in pairs:
        a, b = known[first]["colour"], known[second]["colour"]
        assert abs(lab(a)[0] - lab(b)[0]) > 15, f"{first} and {second} in grey"
        for seen in MACHADO:
            assert np.linalg.norm(lab(a, seen) - lab(b, seen)) > 20, f"{first} and {second} in {seen}"


def test_a_model_without_a_row_takes_the_next_look() -> None:
    style = Style.read(factory.LOOK)
    others = style.get("other_models")
    assert style.model("opt-125m", ["opt-125m", "a-model"]).colour == others[1]["colour"]
    assert style.model("a-model", ["opt-125m", "a-model"]).label == "a-model"


def test_a_trace_with_other_models_is_drawn(tables: dict, tmp_path: Path) -> None:
    table = pq.read_table(tables["daily_counts"]).to_pydict()
    table["model"] = [{"ChatGPT": "code", "GPT-4": "chat"}[name] for name in table["model"]]
    path = tmp_path / "daily_counts.parquet"
    contracts.DAILY_COUNTS.write(table, path)
    draw_figure("fig01", {"daily_counts": path}, factory.FACTS, factory.LOOK, factory.MATPLOTLIBRC, tmp_path / "fig01")
    assert {row["model"] for row in read_csv(tmp_path / "fig01.csv")} == {"code", "chat"}


def test_a_trace_of_one_service_is_drawn_without_the_papers_bound(tables: dict, tmp_path: Path) -> None:
    given = {}
    for name in ("failures", "daily_failures"):
        rows = pq.read_table(tables[name])
        given[name] = tmp_path / f"{name}.parquet"
        pq.write_table(rows.filter(pc.equal(rows["service"], "api")), given[name])
    files = draw("fig14", tables | given, tmp_path)
    assert "paper" not in json.loads(files["json"].read_text(encoding="utf-8"))["caption"]
    assert "paper" not in files["svg"].read_text(encoding="utf-8")
    one = {"mirror_api_timeline": tables["mirror_api_timeline"]}
    draw_figure("fig16", one, factory.FACTS, factory.LOOK, factory.MATPLOTLIBRC, tmp_path / "fig16")
    assert {row["stream"] for row in read_csv(tmp_path / "fig16.csv")} == {"api"}
    with pytest.raises(UserError, match="fig16: no table is given"):
        draw_figure("fig16", {}, factory.FACTS, factory.LOOK, factory.MATPLOTLIBRC, tmp_path / "fig16")


def test_a_trace_too_sparse_for_any_fit_is_drawn_as_such(tables: dict[str, Path], tmp_path: Path) -> None:
    profile = pyarrow_rows(tables["gamma_profile"])
    fits = [name for name in profile if name.startswith(("alpha", "beta"))]
    sparse = tmp_path / "gamma_profile.parquet"
    contracts.GAMMA_PROFILE.write(
        profile | {"windows": [0] * len(profile["windows"])} | {name: [None] * len(profile[name]) for name in fits},
        sparse,
    )
    files = draw("fig06", tables | {"gamma_profile": sparse}, tmp_path)
    assert list(csv.DictReader(files["csv"].open())) == []
    assert "0 fitted windows" in json.loads(files["json"].read_text())["caption"]


def pyarrow_rows(path: Path) -> dict[str, list]:
    return pq.read_table(path).to_pydict()


def test_other_models_are_told_apart_and_conversations_come_first(tables: dict[str, Path], tmp_path: Path) -> None:
    rows = pyarrow_rows(tables["response_bins"])
    names = {"trace conversation ChatGPT": "trace conversation b", "trace conversation GPT-4": "trace conversation a"}
    rows["source"] = [names.get(source, source.replace("ChatGPT", "c")) for source in rows["source"]]
    given = tables | {"response_bins": tmp_path / "response_bins.parquet"}
    contracts.RESPONSE_BINS.write(rows, given["response_bins"])
    files = draw("fig09", given, tmp_path)
    shown = dict.fromkeys(row["source"] for row in read_csv(files["csv"]))
    assert list(shown)[:2] == ["trace conversation a", "trace conversation b"]
    style = Style.read(factory.LOOK)
    looks_ = [lengths.source_name(style, source, shown)[1] for source in list(shown)[:2]]
    assert looks_[0].colour != looks_[1].colour
