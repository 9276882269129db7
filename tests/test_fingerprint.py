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

    def forget():
        for cached in (fingerprint._text, fingerprint._tree, fingerprint._kept, fingerprint._facts):
            cached.cache_clear()

    def code(module):
        forget()
        return fingerprint.code(module)

    yield tmp_path, code
    forget()


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


def test_what_was_found_is_read_again_and_not_found_again(package, monkeypatch):
    _, code = package
    first = code("room.verb")
    with monkeypatch.context() as patched:
        patched.setattr(fingerprint.ast, "parse", None)
        assert code("room.verb") == first
    assert changed(package, "room/part.py", "x = 1", "x = 2") == ["room.part"]


@pytest.mark.parametrize("damage", ["", "{", '{"by": "another Python", "modules": {"burstbench.room.part": {}}}'])
def test_what_was_kept_and_cannot_be_used_is_found_again(package, damage):
    folder, code = package
    first = code("room.verb")
    (folder / "__pycache__/fingerprints.json").write_text(damage)
    assert code("room.verb") == first
    assert '"checksum"' in (folder / "__pycache__/fingerprints.json").read_text()


def test_an_unknown_verb_is_an_error():
    with pytest.raises(FileNotFoundError, match=r"burstbench\.trace\.nothing"):
        fingerprint.code("trace.nothing")


def test_a_copy_of_the_package_counts_the_same(tmp_path, package, root):
    _, code = package
    copy = tmp_path / "copy"
    shutil.copytree(root / "workflow/burstbench", copy, ignore=shutil.ignore_patterns("__pycache__"))
    fingerprint.PACKAGE = copy
    first = code("trace.twin")
    fingerprint.PACKAGE = root / "workflow/burstbench"
    assert code("trace.twin") == first
    assert "seeds" in first
