import hashlib

import pytest
from burstbench import files
from burstbench.errors import UserError


def test_a_file_is_whole_or_absent(tmp_path):
    path = tmp_path / "deep" / "x.txt"
    with pytest.raises(RuntimeError), files.replaced(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert not path.exists()
    files.write_text(path, "whole\n")
    with pytest.raises(RuntimeError), files.replaced(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "whole\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["x.txt"]


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    left, other = tmp_path / ".x.123.part.txt", tmp_path / ".y.123.part.txt"
    left.write_text("half")
    other.write_text("half, of another file")
    files.write_text(tmp_path / "x.txt", "whole\n")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".y.123.part.txt", "x.txt"]


def test_json_has_one_form(tmp_path):
    files.write_json(tmp_path / "a.json", {"b": 1, "a": [1.5, "é"]})
    files.write_json(tmp_path / "b.json", {"a": [1.5, "é"], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert files.read_json(tmp_path / "a.json") == {"a": [1.5, "é"], "b": 1}
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "c.json", float("nan"))


def test_json_that_is_none_is_named(tmp_path):
    (tmp_path / "x.json").write_text('{"a": 1,\n')
    with pytest.raises(UserError, match=r"x\.json: not JSON: .*line 2"):
        files.read_json(tmp_path / "x.json")


def test_sha256_of_a_file_larger_than_a_piece(tmp_path):
    data = bytes(range(256)) * 5000
    (tmp_path / "x").write_bytes(data)
    assert files.sha256(tmp_path / "x") == hashlib.sha256(data).hexdigest()
