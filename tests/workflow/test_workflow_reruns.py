"""What runs again after a change: exactly what depends on it."""

import os
import re
from collections import Counter

import pytest
from burstbench.layout import SIMULATION_FIGURES, SUPPLEMENT_FIGURES, VALIDATION_FIGURES

from .conftest import change, jobs

pytestmark = pytest.mark.slow(5)

PAPER = Counter(
    {
        "Typeset the paper": 1,
        "Make the web page": 1,
        "Record what every file was made from": 1,
        "Describe the study as an RO-Crate": 1,
    }
)
PARAMETERS = Counter({"Write the parameters of the study": 1})
FIGURES = Counter({f"Draw fig{number:02d}": 1 for number in range(1, 18)})
BESIDE = Counter(f"Draw {name}" for name in (*VALIDATION_FIGURES, *SIMULATION_FIGURES, *SUPPLEMENT_FIGURES))
# What compares a row of gpus.yaml with measurements.
VALIDATED = Counter(f"{verb} validation_{name}" for verb in ("Draw", "Make") for name in ("kernels", "published"))
VALIDATED += Counter({"Compare the simulator's step times with measured ones": 1})
SENSITIVITY = Counter(
    {"Test the claims under other assumptions of the simulator": 1, "Draw sensitivity": 1, "Make sensitivity": 1}
)
CALIBRATION = Counter({"Calibrate Table III on the simulated engine": 1, "Make calibration": 1})
SCORECARD = Counter({"Test the paper's claims": 1})
CELLS = [f"{model}_{gpu}" for model in ("llama-2-7b-chat", "llama-2-13b-chat") for gpu in ("a800", "a6000")]
EXPERIMENTS = {
    "warmup": CELLS,
    "vary_alpha": CELLS,
    "vary_beta": CELLS,
    "vary_theta": CELLS,
    "mirror_conversation": [cell for cell in CELLS if "13b" in cell],
    "mirror_api": [cell for cell in CELLS if "13b" in cell],
    "responses": ["llama-2-13b-chat_a800"],
}


def cells(experiment, seeds=(1,), what=("Plan", "Simulate")):
    return Counter(
        f"{verb} {experiment} {cell}_s{seed}" for verb in what for cell in EXPERIMENTS[experiment] for seed in seeds
    )


def measured(*experiments):
    return Counter(f"Measure the cells of {experiment}" for experiment in experiments)


def drawn(*numbers):
    return Counter(f"Draw fig{number:02d}" for number in numbers)


RESPONSE_LENGTHS = Counter({"Fit and relate the lengths of the responses experiment": 1})


@pytest.fixture
def repository(finished):
    """The finished study; every file a test changes is put back with its old time."""
    names = ["small.yaml", "config/figures.yaml", "config/claims.yaml", "config/gpus.yaml"]
    names += ["workflow/burstbench/serve/simulate.py", "workflow/burstbench/metrics/definitions.py"]
    names += ["workflow/burstbench/contracts.py", "workflow/burstbench/trace/check.py"]
    kept = {name: ((finished.folder / name).read_bytes(), (finished.folder / name).stat()) for name in names}
    yield finished
    for name, (data, stat) in kept.items():
        path = finished.folder / name
        path.write_bytes(data)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def replace(path, old, new):
    text = path.read_text()
    assert old in text, f"{path} has no {old!r}"
    path.write_text(text.replace(old, new, 1))


def test_nothing_changed_nothing_runs(repository):
    assert "Nothing to be done" in repository.snakemake()
    assert repository.planned() == Counter()


def test_touched_files_run_nothing(repository):
    for folder in ("workflow", "config", "data/published"):
        for path in (repository.folder / folder).rglob("*"):
            if path.is_file():
                path.touch()
    (repository.folder / "Snakefile").touch()
    assert repository.planned() == Counter()


def test_alpha_of_vary_alpha(repository):
    change(
        repository.folder / "small.yaml",
        experiments__vary_alpha__phases=[
            {"name": "warmup", "seconds": 60},
            {"name": "variation", "requests": 60, "every": 20, "alpha": {"kind": "quadratic", "extreme": 0.5}},
        ],
    )
    expected = cells("vary_alpha") + measured("vary_alpha") + drawn(17) + SCORECARD + PAPER + PARAMETERS
    expected += SENSITIVITY
    assert repository.planned() == expected + Counter({"Make table2": 1})


def test_a_colour(repository):
    replace(repository.folder / "config/figures.yaml", "#", "#0")
    path = repository.folder / "config/figures.yaml"
    path.write_text(re.sub(r"#0([0-9A-Fa-f]{5})[0-9A-Fa-f]", r"#0\1", path.read_text(), count=1))
    assert repository.planned() == FIGURES + BESIDE + PAPER


def test_the_tolerance_of_a_claim(repository):
    path = repository.folder / "config/claims.yaml"
    path.write_text(path.read_text() + "# a changed tolerance\n")
    assert repository.planned() == SCORECARD + PAPER + SENSITIVITY


def test_a_gpu(repository):
    path = repository.folder / "config/gpus.yaml"
    text = path.read_text()
    found = re.search(r"^a6000:\n(?:  .*\n|\n)*?  bandwidth_gb_s: ([0-9.]+)", text, flags=re.MULTILINE)
    assert found
    path.write_text(text[: found.start(1)] + "700.0" + text[found.end(1) :])
    expected = Counter()
    for experiment in EXPERIMENTS:
        if experiment != "responses":
            expected += Counter({name: 1 for name in cells(experiment, what=("Simulate",)) if "a6000" in name})
            expected += measured(experiment)
    expected += drawn(16, 17) + SCORECARD + PAPER + Counter({"Make table2": 1, "Make table3": 1}) + VALIDATED
    expected += SENSITIVITY + CALIBRATION
    assert repository.planned() == expected


def test_one_more_seed(repository):
    change(repository.folder / "small.yaml", seeds=[1, 2])
    expected = PARAMETERS + PAPER + SCORECARD + RESPONSE_LENGTHS + measured(*EXPERIMENTS) + drawn(7, 8, 9, 16, 17)
    for experiment in EXPERIMENTS:
        expected += cells(experiment, seeds=(2,))
    assert repository.planned() == expected + Counter({"Make table2": 1, "Make table3": 1})


def test_a_module_of_one_room(repository):
    with open(repository.folder / "workflow/burstbench/serve/simulate.py", "a") as stream:
        stream.write("\nCHANGED = True\n")
    expected = PAPER + SCORECARD + RESPONSE_LENGTHS + measured(*EXPERIMENTS) + drawn(7, 8, 9, 16, 17)
    expected += Counter({"Make table2": 1, "Make table3": 1}) + SENSITIVITY + CALIBRATION
    for experiment in EXPERIMENTS:
        expected += cells(experiment, what=("Simulate",))
    assert repository.planned() == expected


def test_a_definition_of_the_metrics(repository):
    with open(repository.folder / "workflow/burstbench/metrics/definitions.py", "a") as stream:
        stream.write("\nCHANGED = True\n")
    planned = repository.planned()
    assert measured(*EXPERIMENTS) == Counter({name: n for name, n in planned.items() if name.startswith("Measure")})
    assert not [name for name in planned if name.startswith(("Plan", "Simulate", "Fit Gamma", "Make the twin"))]


def test_a_comment_runs_nothing(repository):
    with open(repository.folder / "workflow/burstbench/contracts.py", "a") as stream:
        stream.write("\n# a comment\n")
    assert repository.planned() == Counter()


def test_for_real(repository):
    """The planned jobs run, no others, and what they make changes where it must and nowhere else."""
    root = repository.folder / "results/small"
    before = {path: path.read_bytes() for path in root.rglob("*.parquet")}
    change(
        repository.folder / "small.yaml",
        experiments__vary_beta__phases=[
            {"name": "warmup", "seconds": 60},
            {"name": "variation", "requests": 60, "every": 20, "beta": {"kind": "linear", "from": 1.0, "to": 0.5}},
        ],
    )
    planned = repository.planned()
    assert planned == cells("vary_beta") + measured("vary_beta") + drawn(
        17
    ) + SCORECARD + PAPER + PARAMETERS + SENSITIVITY + Counter({"Make table2": 1})
    assert jobs(repository.snakemake()) == planned
    after = {path: path.read_bytes() for path in root.rglob("*.parquet")}
    moved = {path.relative_to(root).parts[1] for path in before if before[path] != after[path]}
    # The verdicts under other assumptions are made again and stay.
    assert moved == {"vary_beta"}
    assert repository.planned() == Counter()
