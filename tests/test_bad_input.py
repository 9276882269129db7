"""Verbs with good and with bad input, in a repository with a tiny study: all but those of `ELSEWHERE`.

The examples of the help are what is run: that each does what it says is a test of its own. Then every file and folder
that an example reads is replaced in turn by a missing one, a folder, an empty file, noise, or a file cut in half, with
good ones in all other places: one sentence that names the file, exit status 2, and nothing written.
"""

import json
import resource
import shlex
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import yaml
from burstbench import cli, contracts
from burstbench.config import load
from burstbench.layout import Layout

sys.path.insert(0, str(Path(__file__).parent / "paper"))
from paper_inputs import FACTS, write_study

ROOT = Path(__file__).parents[1]
EXAMPLES = {words: shlex.split(verb.example) for words, verb, _ in cli.verbs()}
# Not run here: what they need is not here, or they write nothing that could be wrong.
ELSEWHERE = {
    "completion": "no input",
    "doctor": "needs a cluster: tests of its own",
    "run": "needs a server: tests/commands",
    "plan load": "no input",
    "sources fetch": "needs a mirror: tests/sources",
    "paper scorecard": "needs the tables of a whole study: tests/paper",
    "paper sensitivity": "needs minutes: tests/paper",
    "serve vllm": "needs vLLM: tests/vllm",
    "serve probe": "runs an engine again and again: tests/serve, on the simulated one",
    "serve endpoint": "needs a server: tests/serve",
}
# With bad input only: what they do with good input takes minutes.
SLOW = {"serve calibrate"}
# What is wrong in them cannot be told: any bytes are a product, and half a template is a template.
ANY = {"results/default/paper.pdf": ("missing", "folder"), "results/default/report.html": ("missing", "folder")}
ANY["workflow/report/report.html.j2"] = ("missing", "folder", "noise")
ANY["config/figures.yaml"] = ("missing", "folder", "empty", "noise")
ANY["config/matplotlibrc"] = ("missing", "folder", "noise")
FILES = ("missing", "folder", "empty", "noise", "half")
FOLDERS = ("missing", "file")


def settings_of(words, config, seed=1, experiment="warmup", model="llama-2-7b-chat"):
    """What settings.json holds for a verb."""
    cell = {"experiment": experiment, "model": model, "gpu": "a800", "seed": seed, "root_seed": 1}
    layout = Layout(config)
    rows = {name: yaml.safe_load((ROOT / f"config/{name}.yaml").read_text()) for name in ("gpus", "models")}
    phases = [{"name": "warmup", "seconds": 20}]
    if experiment == "responses":
        one = {"kind": "constant", "value": 1.0}
        phases = [{"name": "responses", "requests": 300, "alpha": one, "beta": one, "theta": one}]
    plan = {
        "initial": {"alpha": 0.5, "beta": 0.5, "theta": 1.1}, "beta_kind": "scale", "max_tokens": 64,
        "prompt_max_tokens": 64, "phases": phases,
    }  # fmt: skip
    served = {"gpu_row": rows["gpus"]["a800"], "model_row": rows["models"][model]}
    return {
        "plan make": cell | plan,
        "serve simulate": cell | served | {"simulator": config["engines"]["simulator"] | {"step_log": True}},
        "serve calibrate": json.loads(layout.calibration_settings()),
        "serve validate": json.loads(layout.validation_settings()),
        "serve endpoint": cell | {"url": "http://127.0.0.1:9/v1", "served_model": "m"},
    }.get(words, {})


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A folder in which the examples can be typed."""
    folder = tmp_path_factory.mktemp("repository")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("config", "workflow", "data/published", "data/validation"):
            Path(name).parent.mkdir(exist_ok=True)
            shutil.copytree(ROOT / name, name, ignore=shutil.ignore_patterns("__pycache__"))
        write_raw()
        config = load([Path("config/study.yaml")])
        Path("facts.json").write_text(json.dumps(FACTS))
        (results := Path("results/default")).mkdir(parents=True)
        write_study(results)
        Path("results/default/parameters.json").write_text(json.dumps(config))
        call("trace read", "BurstGPT_1.csv")
        shutil.copytree("mine", "results/default/trace")
        call("prompts pool")
        shutil.copytree("mine", "results/default/prompts", ignore=shutil.ignore_patterns("trace*", "window*"))
        for experiment, model in (("responses", "llama-2-13b-chat"), ("warmup", "llama-2-7b-chat")):
            for words in ("plan make", "serve simulate"):
                Path("settings.json").write_text(json.dumps(settings_of(words, config, 1, experiment, model)))
                call(words)
            for room, names in (("plan", ("plan",)), ("serve", ("requests", "steps", "intervals", "run"))):
                to = results / room / experiment / f"{model}_a800_s1"
                to.mkdir(parents=True)
                for file in (file for name in names for file in Path("mine").glob(f"{name}.*")):
                    shutil.copy(file, to)
        call("characterise failures")
        (results / "characterise").mkdir()
        contracts.FAILURES.write(
            contracts.FAILURES.read("mine/failures.csv"), results / "characterise/failures.parquet"
        )
        call("metrics summarise")
        (results / "metrics/warmup").mkdir(parents=True)
        contracts.SUMMARY.write(contracts.SUMMARY.read("mine/summary.csv"), results / "metrics/warmup/summary.parquet")
        for name in ("paper.pdf", "report.html"):
            (results / name).write_text("")
        record = {
            "study": "default",
            "files": {},
            "jobs": [],
            "software": {"burstbench": "1"},
            "facts": FACTS | {"end": "2023-12-31"},
            "marks": {},
        }
        (results / "provenance.json").write_text(json.dumps(record))
        shutil.copytree(results, "results/smoke")
    return folder, config


def write_raw():
    """Write a small trace, dialogues and a tokenizer where the examples look for them."""
    rng = np.random.default_rng(3)
    times = np.sort(rng.integers(0, 7 * 86400, 3000))
    tokens = rng.integers(1, 900, (3000, 2)) * np.column_stack([np.ones(3000, int), rng.random(3000) > 0.03])
    rows = [
        f"{time},{rng.choice(['ChatGPT', 'GPT-4'])},{a},{b},{a + b},{rng.choice(['Conversation log', 'API log'])}"
        for time, (a, b) in zip(times, tokens, strict=True)
    ]
    header = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"
    Path("BurstGPT_1.csv").write_text("\n".join([header, *rows, ""]))
    words = [f"word{number}" for number in range(50)]
    talks = [
        [{"from": role, "value": " ".join(rng.choice(words, rng.integers(1, 30)))} for role in ("human", "gpt") * 2]
        for _ in range(400)
    ]
    talks.append([{"from": role, "value": " ".join(rng.choice(words, 4000))} for role in ("human", "gpt")])
    dialogues = Path(EXAMPLES["prompts pool"][EXAMPLES["prompts pool"].index("--dialogues") + 1])
    tokenizer = Path(EXAMPLES["prompts pool"][EXAMPLES["prompts pool"].index("--tokenizer") + 1])
    for path in (dialogues, tokenizer):
        path.parent.mkdir(parents=True)
    dialogues.write_text(json.dumps([{"id": str(number), "conversations": talk} for number, talk in enumerate(talks)]))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(words)] * 100), model_prefix="small", vocab_size=320, model_type="bpe",
        byte_fallback=True, minloglevel=2, num_threads=1,
    )  # fmt: skip
    shutil.move("small.model", tokenizer)


def call(words, *_):
    cli.main([*words.split(), *EXAMPLES[words]])


def inputs(words):
    """The words of an example that name what it reads: those that do not lie in `mine`, or were made there before."""
    made = {"mine/plan.parquet", "mine/plan.json"}
    found = []
    for position, word in enumerate(EXAMPLES[words]):
        path = word.rpartition("=")[2] if "=" in word and not word.startswith("{") else word
        outside = not path.startswith(("mine/", "{")) and ("/" in path or path.endswith((".json", ".csv")))
        if outside or (path in made and not words.startswith("plan")):
            found.append((position, path))
    return found


CASES = [
    pytest.param(words, position, path, bad, id=f"{words} {path} {bad}")
    for words in EXAMPLES
    if words not in ELSEWHERE
    for position, path in inputs(words)
    for bad in ANY.get(path, FILES if Path(path).suffix else FOLDERS)
]

RUN = [words for words in EXAMPLES if words not in ELSEWHERE and words not in SLOW]


@pytest.fixture
def ready(repository, monkeypatch):
    folder, config = repository
    monkeypatch.chdir(folder)

    def prepare(words):
        Path("settings.json").write_text(json.dumps(settings_of(words, config)))
        shutil.rmtree("mine", ignore_errors=True)
        Path("mine").mkdir()
        for name in ("plan.parquet", "plan.json"):
            if not words.startswith("plan"):
                shutil.copy(f"results/default/plan/warmup/llama-2-7b-chat_a800_s1/{name}", "mine")
        return {path: path.read_bytes() for path in Path("mine").iterdir()}

    return prepare


@pytest.mark.parametrize("words", RUN)
def test_the_example_of_a_verb_runs(words, ready, capsys):
    before = ready(words)
    if words == "verify":  # the tiny study's record names none of its files
        with pytest.raises(SystemExit, match="3"):
            call(words)
    else:
        call(words)
        assert set(Path("mine").rglob("*")) > before.keys()


@pytest.mark.parametrize(("words", "position", "path", "bad"), CASES)
def test_bad_input_is_named_and_nothing_is_written(words, position, path, bad, ready, capsys, tmp_path):
    before = ready(words)
    wrong = tmp_path / f"wrong{Path(path).suffix}"
    if bad == "folder":
        wrong.mkdir()
    elif bad in {"empty", "file"}:
        wrong.write_bytes(b"")
    elif bad == "noise":
        wrong.write_bytes(np.random.default_rng(1).integers(0, 256, 5000, np.uint8).tobytes())
    elif bad == "half":
        whole = Path(path).read_bytes()
        cut = len(whole) // 2
        wrong.write_bytes(whole[: cut + whole[cut:].find(b"\n") + 9])  # in the middle of a line
    example = [*EXAMPLES[words]]
    example[position] = example[position].replace(path, str(wrong))
    with pytest.raises(SystemExit) as stop:
        cli.main([*words.split(), *example])
    said = capsys.readouterr().err
    assert stop.value.code == 2, said
    assert str(wrong) in said
    assert len([line for line in said.splitlines() if not line.startswith("hint: ")]) == 1, said
    assert {file: file.read_bytes() for file in Path("mine").rglob("*") if file.is_file()} == before


@contextmanager
def full_disk():
    """No file may grow beyond 64 bytes: what a full disk does, without one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("words", [words for words in RUN if words not in {"verify"}])
def test_a_full_disk_is_named_and_nothing_is_left(words, ready, capsys):
    before = ready(words)
    with pytest.raises(SystemExit) as stop, full_disk():
        call(words)
    said = capsys.readouterr().err
    assert stop.value.code == 2, said
    assert "mine/" in said or "burstbench-paper-" in said  # typst works in a folder for temporary files
    assert "File too large" in said
    assert {file: file.read_bytes() for file in Path("mine").rglob("*") if file.is_file()} == before
