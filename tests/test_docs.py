"""The pages' links lead somewhere, their commands run as typed, and the reference is what the code says."""

import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from burstbench import reference
from workflow.conftest import copy_of_the_repository

sys.path.insert(0, str(Path(__file__).parent / "serve"))
from serve_faulty_server import serving

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = {
    page: blocks
    for page in PAGES
    if (blocks := re.findall(r"^ *```bash\n(.*?)^ *```", page.read_text(), flags=re.MULTILINE | re.DOTALL))
}
# What is not done for real here, and what is done in its place.
STANDINS = {
    "make": ("makes environments and studies, for minutes", 'exec "$REAL_MAKE" --dry-run "$@"'),
    "snakemake": ("runs studies, for minutes", f'exec {shlex.quote(sys.executable)} -m snakemake -n "$@"'),
    **dict.fromkeys(("sbatch", "squeue", "sinfo", "scancel", "sacct"), ("needs a cluster", "exit 0")),
}
# Verbs that are only parsed here: what they need is not in a fresh clone.
PARSED = {
    "verify": "needs a finished study; tests/paper has one",
    "compare": "needs two finished studies; tests/commands has two",
    "serve fit": "needs a finished study; tests/serve fits one",
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        found = page.parent / path if path else page
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", found.read_text(), flags=re.MULTILINE)
            assert anchor in {
                re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
            }


def test_every_page_can_be_found_from_the_index():
    index = (ROOT / "docs/README.md").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        assert page.name == "README.md" or f"]({page.relative_to(ROOT / 'docs')})" in index, page
    assert "](docs/README.md)" in (ROOT / "README.md").read_text()


def test_named_files_exist():
    text = (ROOT / "README.md").read_text()
    for name in re.findall(r"`((?:config|profiles|envs|docs|workflow)/[^`<*\s]*)`", text):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"^([a-zA-Z][\w/.-]*?)/? {2,}\S", text, flags=re.MULTILINE):
        if "<" not in name:
            assert (ROOT / name).exists(), name


def test_the_reference_is_what_the_code_says():
    committed = {page.name: page.read_text() for page in (ROOT / "docs/reference").iterdir()}
    assert committed == reference.pages(), "out of date: run `make docs` and commit docs/reference"


def test_there_are_commands():
    assert "make reproduce\n" in BLOCKS[ROOT / "README.md"]
    assert "make test\n" in BLOCKS[ROOT / "README.md"]


def script(path, text):
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    """A copy of the repository, and a folder of programs that stand in for what takes long; each says that it does."""
    folder, programs = tmp_path_factory.mktemp("repository"), tmp_path_factory.mktemp("programs")
    copy_of_the_repository(folder)
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/activate").touch()
    for name, (why, instead) in STANDINS.items():
        key = f'key="$HOME/done-$(echo {name} "$@" | sed "s/ -n$//" | cksum | cut -d" " -f1)"'
        once = f'{key}; [ -e "$key" ] && exit 0; touch "$key"'
        script(programs / name, f'#!/bin/sh\necho "stand-in: {name} $*: {why}"\n{once}\n{instead}\n')
    script(programs / "burstbench", f"#!{sys.executable}\n{BURSTBENCH.replace('PARSED', repr(PARSED))}")
    return folder, programs


BURSTBENCH = """
import os
import sys

from burstbench import cli

if __name__ == "__main__":
    for verb, why in PARSED.items():
        if sys.argv[1 : 1 + len(verb.split())] == verb.split():
            print(f"stand-in: burstbench {verb} is only parsed: {why}")
            cli.make_parser(sys.argv[1:])[0].parse_args()
            sys.exit()
    if sys.argv[1] == "run" and "--plan" in sys.argv:
        print("stand-in: burstbench run --plan is only parsed: needs a study's plan; tests/commands sends one")
        cli.make_parser(sys.argv[1:])[0].parse_args()
        sys.exit()
    if sys.argv[1] == "run":  # a server of the test's, fewer requests, a machine that is busy
        sys.argv[sys.argv.index("--endpoint") + 1] = os.environ["SERVER"]
        sys.argv += ["--requests", "10", "--lag-limit-s", "9"]
        print("stand-in: burstbench run sends 10 requests to a server of the test")
    cli.main()
"""


@pytest.mark.parametrize("page", BLOCKS, ids=lambda page: page.name)
def test_the_commands_of_a_page_run(page, sandbox):
    """All of a page one after the other, in a copy of the repository."""
    folder, programs = sandbox
    environment = os.environ | {
        "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": "workflow",
        "BURSTBENCH_MIRROR": str(ROOT / "data/raw"),
        "REAL_MAKE": subprocess.run(["which", "make"], capture_output=True, text=True, check=True).stdout.strip(),
        "HOME": str(programs),
    }
    text = "set -e\n" + "".join(f"set -x\n{block}{{ set +x; }} 2>/dev/null\n" for block in BLOCKS[page])
    with serving() as server:
        environment["SERVER"] = server.url()
        done = subprocess.run(["bash", "-c", text], cwd=folder, env=environment, capture_output=True, text=True)
    print("\n".join(line for line in done.stdout.splitlines() if line.startswith("stand-in")))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
