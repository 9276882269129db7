"""The README's links lead somewhere, and its commands run as typed."""

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "serve"))
from serve_faulty_server import serving

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = [
    line
    for page in PAGES
    for block in re.findall(r"^```bash\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith(("https://", "#")):
            assert (page.parent / target).exists(), target


def test_named_files_exist():
    text = (ROOT / "README.md").read_text()
    for name in re.findall(r"`((?:config|profiles|envs|docs|workflow)/[^`<*\s]*)`", text):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"^([a-zA-Z][\w/.-]*?)/? {2,}\S", text, flags=re.MULTILINE):
        if "<" not in name:
            assert (ROOT / name).exists(), name


def test_there_are_commands():
    assert "make reproduce" in COMMANDS
    assert "make test" in COMMANDS


@pytest.mark.parametrize("command", dict.fromkeys(COMMANDS))
def test_commands_run(command, tmp_path):
    """Real where that is quick, a dry run for what takes minutes."""
    if command.startswith("."):
        assert command == ". .venv/bin/activate"
        return
    if command.startswith("make "):
        command += " --dry-run"
    elif command.startswith("snakemake") and " -n" not in command:
        command += " -n"
    elif " --out " in command:
        command = re.sub(r"--out \S+", f"--out {tmp_path}", command)
    with ExitStack() as stack:
        if command.startswith("burstbench run "):  # a server on the loopback, fewer requests, a machine that is busy
            url = stack.enter_context(serving()).url()
            command = re.sub(r"--endpoint \S+", f"--endpoint {url}", command).replace("500", "10") + " --lag-limit-s 9"
        check_runs(command)


def check_runs(command):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command, shell=True, cwd=ROOT, env=os.environ | {"PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
