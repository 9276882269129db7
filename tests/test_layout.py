"""What a study makes and says of it, by its configuration."""

import json
from pathlib import Path

import pytest
from burstbench.config import ROOT, check, load
from burstbench.layout import SIMULATION, Layout

STUDY = ROOT / "config/study.yaml"
ALL = set(SIMULATION)
WARMUP = {"name": "warmup", "seconds": 1000}
VARIED = {"name": "variation", "requests": 2200}
TRACE = {"service": "conversation", "model": "ChatGPT"}
MIRROR = {**TRACE, "compressed_s": 60, "scaled_to": "conversation"}
REPLAY = {"service": "api", "from_s": 0, "seconds": 3600}
PROBE = {"target": [0.3, 0.4], "seconds": 200, "probes": 8}
MEASURED = {"kind": "measured", "file": "data/run/requests.parquet"}


def layout_of(experiment=None, phases=(), **changed):
    """The layout of the default study with one experiment's phases changed; it is right."""
    config = load([STUDY])
    config |= changed
    if experiment:
        config["experiments"][experiment] = {"phases": list(phases)}
    return Layout(check(config, [STUDY]))


@pytest.mark.parametrize(
    ("experiment", "phases", "left_out"),
    [
        (None, (), set()),
        ("warmup", [{"name": "warmup", "requests": 50}], {"calibration"}),
        ("warmup", [WARMUP | {"alpha": {"kind": "constant", "value": 2.0}}], {"calibration"}),
        ("warmup", [WARMUP | {"lengths": {"kind": "trace"} | TRACE}], {"calibration", "sensitivity"}),
        ("vary_alpha", [WARMUP, VARIED | {"lengths": {"kind": "trace"} | TRACE}], {"sensitivity"}),
        ("vary_alpha", [WARMUP, VARIED | {"lengths": {"kind": "joint"} | TRACE}], {"sensitivity"}),
        ("vary_beta", [WARMUP, {"name": "replayed", "replay": REPLAY}], {"sensitivity"}),
        ("vary_theta", [WARMUP, {"name": "mirrored", "mirror": MIRROR}], set()),
        ("mirror_api", [{"name": "m", "mirror": MIRROR, "lengths": {"kind": "constant", "tokens": 9}}], set()),
        ("mirror_api", [{"name": "m", "mirror": MIRROR, "lengths": {"kind": "trace"} | TRACE}], {"sensitivity"}),
        ("responses", [WARMUP, {"name": "replayed", "replay": REPLAY}], set()),
    ],
)
def test_only_what_can_be_repeated_is_shown_beside_the_cells(experiment, phases, left_out):
    layout = layout_of(experiment, phases)
    assert {name for name in SIMULATION if layout.has(name)} == ALL - left_out
    assert {Path(file).stem for file in layout.simulation("tables")} == ALL - left_out
    assert {Path(file).stem for file in layout.simulation("figures")} == {"sensitivity"} - left_out
    # The settings of what is made can be told.
    for name in ALL - left_out:
        settings = json.loads(getattr(layout, f"{name}_settings")())
        assert settings["root_seed"] == layout.config["seed"]
        assert settings["seeds"] == layout.config["simulation"]["seeds"]


@pytest.mark.parametrize(
    ("experiment", "phases", "repeated"),
    [
        ("vary_alpha", [WARMUP, VARIED], True),
        ("vary_alpha", [WARMUP, VARIED | {"lengths": {"kind": "trace"} | TRACE}], False),
        ("vary_alpha", [WARMUP, {"name": "replayed", "replay": REPLAY}], False),
        ("vary_alpha", [WARMUP, {"name": "mirrored", "mirror": MIRROR}], True),
        ("responses", [WARMUP], True),
    ],
)
def test_numbers_rest_on_more_seeds_than_have_files_where_one_process_can_repeat_the_cells(
    experiment, phases, repeated
):
    layout = layout_of(experiment, phases)
    settings = json.loads(layout.metrics_settings()[experiment])
    assert ("repeat" in settings) == repeated
    tables = layout.repeat_tables(experiment)
    assert set(tables) == ({"pool_index", "replies"} if repeated else set()) | (
        {"gamma_profile"} if "mirror" in phases[-1] else set()
    )
    assert all(f"{path}" in layout.repeat_options(experiment) for path in tables.values())
    if repeated:
        repeat = settings["repeat"]
        # Those of the cells that have files are read from them.
        assert repeat["seeds"] == [3, 4, 5, 6, 7, 8, 9, 10]
        assert {tuple(row) for row in repeat["cells"]} == {
            (experiment, cell.model, cell.gpu) for cell in layout.cells(experiment)
        }
    # A server cannot be repeated, nor a beta that was probed, nor seeds that all have files.
    for other in ({"engine": "vllm"}, {"plan": layout.config["plan"] | {"probe": PROBE}}, {"seeds": [*range(1, 11)]}):
        changed = layout_of(experiment, phases, **other)
        assert "repeat" not in json.loads(changed.metrics_settings()[experiment])
        assert changed.repeat_options(experiment) == ""


def test_nothing_is_repeated_with_another_beta_than_the_cells():
    config = load([STUDY])
    layout = layout_of(plan=config["plan"] | {"probe": PROBE})
    assert not any(map(layout.has, SIMULATION))
    assert layout.simulation("tables") == layout.simulation("figures") == []
    assert "vary_alpha_summary" in layout.figure_tables("fig17")


@pytest.mark.parametrize(
    ("phase", "follows"),
    [
        (VARIED, False),
        (VARIED | {"lengths": {"kind": "constant", "tokens": 9}}, False),
        (VARIED | {"lengths": {"kind": "trace"} | TRACE}, True),
        (VARIED | {"lengths": {"kind": "joint"} | TRACE}, True),
        ({"name": "replayed", "replay": REPLAY}, True),
        ({"name": "mirrored", "mirror": MIRROR}, True),
    ],
)
def test_a_run_says_the_trace_where_its_phases_follow_it(phase, follows):
    layout = layout_of("vary_alpha", [WARMUP, phase])
    assert ("trace" in json.loads(layout.facts(("vary_alpha_summary",)))) == follows
    for other in ("vary_beta_summary", "warmup_cells", "calibration"):
        assert "trace" not in json.loads(layout.facts((other,)))


@pytest.mark.parametrize("name", ["mirror_api_timeline", "responses_length_counts", "sensitivity"])
def test_what_follows_the_trace_in_the_default_study_says_it(name):
    assert json.loads(layout_of().facts((name,)))["trace"] == "twin"
    # By what the experiments are, not by their names.
    plain = {run: {"phases": [WARMUP]} for run in load([STUDY])["experiments"]}
    assert "trace" not in json.loads(layout_of(experiments=plain).facts((name,)))


def test_files_that_the_settings_of_simulated_runs_name_are_inputs():
    simulation = load([STUDY])["simulation"]
    function = {"kind": "table", "csv": "data/alpha.csv"}
    phases = [WARMUP, VARIED | {"every": 200, "alpha": function}]
    layout = layout_of(
        "vary_alpha",
        phases,
        simulation=simulation
        | {
            "calibration": simulation["calibration"] | {"response_lengths": [{"kind": "empirical"}, MEASURED]},
            "sensitivity": [{"label": "a", "scheduler": "v0"}, {"label": "b", "response_lengths": MEASURED}],
        },
    )
    assert layout.simulation_files("calibration") == [MEASURED["file"]]
    assert layout.simulation_files("sensitivity") == [MEASURED["file"], function["csv"]]
    assert layout.repeat_files("vary_alpha") == [function["csv"]]
    assert layout.simulator_files() == []


def test_what_is_published_of_burstgpt_is_not_set_beside_another_trace():
    config = load([STUDY])
    config["trace"] |= {"source": "real", "datasets": ["sharegpt_subset"]}
    other, own = Layout(config), layout_of()
    assert (own.source, other.source) == ("twin", "other")
    shown = {Path(file).stem for kind in ("figures", "tables") for file in own.exhibits(kind)}
    left = {Path(file).stem for kind in ("figures", "tables") for file in other.exhibits(kind)}
    assert shown - left == {"figS01", "tableS13"}
    assert own.check()
    assert not other.check()
    for figure in ("fig01", "fig03", "fig08"):
        assert not any(table.startswith("published") for table in other.figure_tables(figure))
        assert any(table.startswith("published") for table in own.figure_tables(figure))


def test_what_rests_on_an_experiment_that_is_left_out_is_told():
    config = load([STUDY])
    assert Layout(config).left_out() == []
    del config["experiments"]["mirror_api"]
    assert Layout(config).left_out() == []  # Fig. 16 has the other stream
    for name in ("mirror_conversation", "vary_beta", "responses", "warmup"):
        del config["experiments"][name]
    left_out = ["fig07", "fig08", "fig09", "fig16", "fig17", "table3"]
    assert Layout(config).left_out() == left_out
    assert f"--left-out {' '.join(left_out)}" in Layout(config).more_options()
    assert json.loads(Layout(config).table_facts("table2"))["engine"] == "simulator"
