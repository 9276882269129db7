import copy
from pathlib import Path

import pytest
import yaml
from burstbench import config
from burstbench.config import Cell, ConfigError

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "config/study.yaml"
DEFAULT = yaml.safe_load(STUDY.read_text())


@pytest.mark.parametrize("overlay", [None, *sorted((ROOT / "config/studies").glob("*.yaml"))], ids=str)
def test_every_committed_study_is_right(overlay):
    merged = config.load([STUDY, *([overlay] if overlay else [])])
    assert merged["study"] == (overlay.stem if overlay else "default")


def test_every_key_of_the_schema_is_described():
    schema = config.load_yaml(ROOT / "config/schema.yaml")
    missing = []

    def walk(node, path):
        for name, child in node.get("properties", {}).items():
            if "description" not in child and "$ref" not in child:
                missing.append(f"{path}{name}")
            walk(child, f"{path}{name}.")
        extra = node.get("additionalProperties")
        if isinstance(extra, dict):
            walk(extra, f"{path}*.")
        elif node.get("type") == "object" and node.get("properties"):
            assert extra is False, f"{path or 'the whole'} lets unknown keys through"

    walk(schema, "")
    assert missing == []


PHASE = {"name": "warmup", "seconds": 1000}


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("sed", 1, "sed (in {file}): unknown key"),
        (
            "trace.sorce",
            "twin",
            "trace.sorce (in {file}): unknown key; known here: adapter, clock, columns, datasets, days, "
            "model, offsets_s, service, services, source, start, twin, window",
        ),
        ("engines.simulator.timeout.second", 3, "engines.simulator.timeout.second (in {file}): unknown key"),
        ("trace.days", "61", "trace.days (in {file}): '61' is not of type 'integer'"),
        ("trace.start", "1 Nov", "trace.start (in {file}): '1 Nov' does not match"),
        ("trace.window", {"from_day": 50, "to_day": 70}, "trace.window (in {file}): days 50 to 70 are not within"),
        ("trace.offsets_s", [0, 5], "trace.offsets_s (in {file}): found 2 offsets, expected one for each of the 1"),
        ("trace.adapter", "azure", "trace.adapter (in {file}): model: the adapter 'azure' needs the name of the model"),
        ("seeds", [1, 1], "seeds (in {file}): [1, 1] has non-unique elements"),
        (
            "initial.llama-2-7b-chat.a800.alpha",
            0,
            "initial.llama-2-7b-chat.a800.alpha (in {file}): 0 is less than or equal",
        ),
        ("initial.llama-2-7b-chat.a800.alpha", -0.5, "(Gamma shape, above 0)"),
        ("gpus", ["a900"], "gpus[0] (in {file}): 'a900' is not in config/gpus.yaml"),
        ("models", ["llama-3"], "models[0] (in {file}): 'llama-3' is not in config/models.yaml"),
        ("prompts.dataset", "sharegpt", "prompts.dataset (in {file}): 'sharegpt' is not in config/datasets.csv"),
        ("prompts.max_tokens", 3500, "prompts.max_tokens (in {file}): 3500 prompt tokens and 1024 response tokens"),
        ("characterise.workday_hours", [22, 8], "characterise.workday_hours (in {file}): 22 is not before 8"),
        ("characterise.gamma.window_s", 1000, "characterise.gamma.window_s (in {file}): 1000 s do not divide a day"),
        ("characterise.gamma.offset_s", 1200, "characterise.gamma.offset_s (in {file}): 1200 s is not less than"),
        ("characterise.lengths.coarse_request_bins", [1, 5, 3], "does not rise"),
        ("experiments.vary_alpha.phases", [PHASE | {"alpha": {"kind": "constant", "value": -1}}], "alpha"),
        ("experiments.vary_alpha.phases", [PHASE | {"requests": 5}], "experiments.vary_alpha.phases (in {file}): "),
        ("experiments.vary_alpha.phases", [PHASE | {"secs": 5}], "secs"),
        ("experiments.warmup.gpus", ["a900"], "experiments.warmup.gpus[0] (in {file}): 'a900' is not in"),
        ("engines.simulator.memory_utilization", 0.2, "Llama-2-13b-chat does not fit on A800"),
        ("engine", "simulated", "engine (in {file}): 'simulated' is not one of"),
        ("engine", "endpoint", "gpus (in config/study.yaml): found 2, expected one"),
        ("engines.endpoint.url", "host:8000", "engines.endpoint.url (in {file}): 'host:8000' does not match"),
    ],
)
def test_a_wrong_value_is_refused_with_key_and_file(tmp_path, path, value, expected):
    overlay: dict = {}
    *levels, last = path.split(".")
    place = overlay
    for level in levels:
        place = place.setdefault(level, {})
    place[last] = value
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(overlay))
    with pytest.raises(ConfigError) as error:
        config.load([STUDY, file])
    assert expected.format(file=file) in str(error.value)


OF_ONE_MODEL = """
trace: {source: real, adapter: azure, model: chat, service: conversation}
characterise: {bursts: {model: chat}}
experiments:
  mirror_conversation:
    phases: [{name: mirrored, mirror: {service: conversation, model: chat, compressed_s: 60, scaled_to: conversation}}]
  responses: null
"""


def test_a_service_that_the_trace_cannot_hold_is_refused_before_anything_runs(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(OF_ONE_MODEL)
    with pytest.raises(ConfigError) as error:
        config.load([STUDY, file])
    key = "experiments.mirror_api.phases[1].mirror"
    assert f"{key}.service (in config/study.yaml): 'api' is not in the trace, which can hold 'conversation'" in str(
        error.value
    )
    assert f"{key}.model (in config/study.yaml): 'ChatGPT' is not in the trace, which can hold 'chat'" in str(
        error.value
    )
    assert "`experiments: {mirror_api: null}`" in str(error.value)
    assert "responses" not in str(error.value)


def test_an_experiment_of_null_is_left_out(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(OF_ONE_MODEL + "  mirror_api: null\n")
    assert {"mirror_api", "responses"}.isdisjoint(config.load([STUDY, file])["experiments"])


def test_all_errors_are_told_at_once(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("sed: 1\ntrace: {days: 0}\n")
    with pytest.raises(ConfigError) as error:
        config.load([STUDY, file])
    assert len(str(error.value).splitlines()) == 3


def test_a_key_that_stands_twice_is_refused(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("seed: 1\nstudy: a\nseed: 2\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: not YAML: key 'seed' stands twice"):
        config.load([STUDY, file])


def test_cells_of_the_default_study():
    found = config.cells(DEFAULT)
    assert len(found) == len(set(found)) == (4 * 4 + 2 * 2 + 1) * 2
    assert config.cells(DEFAULT, "responses") == [
        Cell("responses", "llama-2-13b-chat", "a800", seed) for seed in (1, 2)
    ]
    assert found[0].folder == "warmup/llama-2-7b-chat_a800_s1"


def test_one_gpu_leaves_the_other_out():
    one = copy.deepcopy(DEFAULT) | {"gpus": ["a6000"]}
    assert {cell.gpu for cell in config.cells(one)} == {"a6000"}
