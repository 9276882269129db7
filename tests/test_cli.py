"""The command line: overview, examples, errors, completion, and a start without what is not needed."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from burstbench import cli

PROGRAM = """
import sys
from burstbench.cli import without_pandas

without_pandas()
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

table = pa.table({"a": np.arange(3), "b": ["x", None, "z"], "c": pa.array(np.ones(3), mask=np.array([0, 1, 0], bool))})
pq.write_table(pa.Table.from_pylist(table.to_pylist()), "t.parquet")
assert pq.read_table("t.parquet").equals(table)
assert table["a"].to_numpy().tolist() == [0, 1, 2]
assert "pandas" not in sys.modules, "pyarrow imported pandas"
import pandas as pd

assert pd.Series([1, 2]).sum() == 3
"""


def test_tables_are_made_without_pandas_which_can_be_imported_nevertheless(tmp_path):
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, check=True)


def run(*words, environment=None, **options):
    done = subprocess.run(
        [sys.executable, "-m", "burstbench", *words],
        env=os.environ | (environment or {}), capture_output=True, text=True, **options,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


VERBS = {words: (verb, module) for words, verb, module in cli.verbs()}


@pytest.fixture(scope="module")
def parser():
    return cli.make_parser()[0]


@pytest.mark.parametrize("words", VERBS)
def test_the_example_of_a_verb_parses(words, parser, tmp_path, monkeypatch):
    for name in ("settings.json", "facts.json"):
        (tmp_path / name).write_text("{}")
    monkeypatch.chdir(tmp_path)
    args = parser.parse_args([*words.split(), *shlex.split(VERBS[words][0].example)])
    assert [args.room, *([args.verb] if " " in words else [])] == words.split()


@pytest.mark.parametrize("words", VERBS)
def test_the_help_of_a_verb_shows_its_example_as_typed(words, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*words.split(), "--help"])
    assert stop.value.code == 0
    example = capsys.readouterr().out.partition("example:\n")[2]
    assert shlex.split(example.replace("\\\n", " ")) == shlex.split(f"burstbench {words} {VERBS[words][0].example}")


def test_every_module_with_a_face_is_a_verb():
    package = Path(cli.__file__).parent
    faces = {
        ".".join(path.relative_to(package.parent).with_suffix("").parts)
        for path in package.glob("*/*.py")
        if {"add_arguments", "run"}
        <= {n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef)}
    }
    assert faces == {module for _, module in VERBS.values()}
    assert set(cli.ROOM_TEXTS) == set(cli.ROOMS)


def test_the_overview_names_every_verb_and_exit_status():
    shown = run("--help").stdout
    assert run().stdout == shown
    for words in VERBS:
        assert re.search(rf"\b{words.split()[-1]}\b", shown), words
    for status in (0, 1, 2, cli.FOUND, 130):
        assert re.search(rf"^  {status} ", shown, flags=re.MULTILINE)
    assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.parametrize(
    ("words", "says", "hint"),
    [
        ("trase read", "burstbench: found 'trase', expected one of", "burstbench trace"),
        ("trace raed", "burstbench trace: found 'raed', expected one of read, twin, check", "burstbench trace read"),
        ("complation zsh", "burstbench: found 'complation'", "burstbench completion"),
        ("trace read --csv x", "the following arguments are required: --settings", "burstbench trace read --help"),
        ("completion csh", "invalid choice: 'csh'", "burstbench completion --help"),
        ("trace check --settings none.json", "nor a file: 'none.json'", "burstbench trace check --help"),
        ("trace check --settings {", "argument --settings: not JSON", "burstbench trace check --help"),
        ("trace check --settings []", "neither a JSON object nor a file", "burstbench trace check --help"),
    ],
)  # fmt: skip
def test_a_wrong_command_gets_one_sentence_and_a_hint(words, says, hint, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(words.split())
    assert stop.value.code == 2
    sentence, hinted = capsys.readouterr().err.splitlines()
    assert says in sentence
    assert hinted == f"hint: {hint}"


def test_the_overview_and_a_wrong_word_import_no_library():
    program = (
        "import sys\nfrom burstbench.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('numpy', 'pyarrow', 'yaml', 'argcomplete') if name in sys.modules], file=sys.stderr)"
    )
    for words in (["--help"], ["trace", "--help"]):
        done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
        assert done.stderr == "[]\n"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("burstbench tr", {"trace"}),
        ("burstbench comple", {"completion"}),
        ("burstbench trace ", {"read", "twin", "check"}),
        ("burstbench serve fit --", {"--steps", "--run", "--out", "--help"}),
        ("burstbench completion ", {"bash", "zsh", "fish"}),
    ],
)
def test_a_shell_is_told_what_may_follow(line, expected, tmp_path):
    environment = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "found"),
        "_ARGCOMPLETE_IFS": "\n",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    run(environment=environment)
    assert {word.strip() for word in (tmp_path / "found").read_text().split("\n")} >= expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell_is_printed_and_read_by_it(shell):
    script = run("completion", shell).stdout
    assert "burstbench" in script
    if found := shutil.which(shell):
        subprocess.run([found, "-n"], input=script, text=True, check=True)
