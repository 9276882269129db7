import shutil

import pytest
from burstbench import fingerprint

SMALL = {
    "errors.py": "class UserError(Exception):\n    pass\n",
    "contracts.py": "UNIT = 's'\nA = ('a', UNIT)\nB = ('b',)\nCONTRACTS = dict(globals())\n",
    "room/__init__.py": "",
    "room/verb.py": "from burstbench import contracts\nfrom burstbench.room import part\n\n\ndef run():\n"
    "    return contracts.A, part.x\n",
    "room/part.py": "import json\n\nx = 1  # a number\n",
    "room/other.py": "from burstbench.contracts import B\n",
    "__init__.py": "__version__ = '1'\n",
    "cli.py": "import burstbench.room.verb\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small package whose files a test may change; `code` reads it afresh on each call."""
    for name, text in SMALL.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(fingerprint, "PACKAGE", tmp_path)

    def code(module):
        for cached in (fingerprint._tree, fingerprint._imports, fingerprint._checksum, fingerprint._checksum_of_names):
            cached.cache_clear()
        return fingerprint.code(module)

    yield tmp_path, code
    code_caches = (fingerprint._tree, fingerprint._imports, fingerprint._checksum, fingerprint._checksum_of_names)
    for cached in code_caches:
        cached.cache_clear()


def changed(package, name, old, new, module="room.verb"):
    folder, code = package
    before = code(module)
    path = folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    after = code(module)
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


def test_what_a_verb_depends_on(package):
    _, code = package
    assert sorted(code("room.verb")) == ["contracts", "room", "room.part", "room.verb"]
    assert sorted(code("room.other")) == ["contracts", "room", "room.other"]


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("room/part.py", "x = 1", "x = 2", ["room.part"]),
        ("room/part.py", "# a number", "# still one", []),
        ("room/part.py", "x = 1", '"""A docstring that must not count."""\n\nx   =   1', ["room.part"]),
        ("room/part.py", "import json", '"""Doc."""\nimport json', []),
        ("room/other.py", "B", "A", []),
        ("contracts.py", "'a'", "'c'", ["contracts"]),
        ("contracts.py", "'s'", "'ms'", ["contracts"]),
        ("contracts.py", "'b'", "'c'", []),
        ("contracts.py", "CONTRACTS = dict(globals())", "C = 1", []),
        ("__init__.py", "'1'", "'2'", []),
        ("cli.py", "verb", "other", []),
    ],
)
def test_which_changes_count(package, name, old, new, expected):
    assert changed(package, name, old, new) == expected


def test_all_contracts_count_where_they_are_looked_up_by_name(package):
    folder, _ = package
    (folder / "room/verb.py").write_text("from burstbench.contracts import CONTRACTS\n")
    assert changed(package, "contracts.py", "'b'", "'c'") == ["contracts"]


def test_an_unknown_verb_is_an_error():
    with pytest.raises(FileNotFoundError, match=r"burstbench\.trace\.nothing"):
        fingerprint.code("trace.nothing")


def test_a_copy_of_the_package_counts_the_same(tmp_path, package, root):
    _, code = package
    copy = tmp_path / "copy"
    shutil.copytree(root / "workflow/burstbench", copy)
    fingerprint.PACKAGE = copy
    first = code("trace.twin")
    fingerprint.PACKAGE = root / "workflow/burstbench"
    assert code("trace.twin") == first
    assert "seeds" in first
