"""The registry is read strictly: what is wrong is named with its line."""

from pathlib import Path

import pytest
from burstbench.sources.registry import COLUMNS, Identity, RegistryError, WrongFileError, read_registry

A, B = "a" * 64, "b" * 64
ROW = {
    "name": "trace",
    "version": "1",
    "file": "trace.csv",
    "member": "",
    "urls": "https://one.example/t.csv http://two.example/t.csv",
    "identity": "crlf|lf",
    "bytes": "12|11",
    "sha256": f"{A}|{B}",
    "licence": "CC-BY-4.0",
    "description": "a trace",
}


def write(tmp_path: Path, *rows: dict[str, str], header=COLUMNS) -> Path:
    path = tmp_path / "datasets.csv"
    lines = [",".join(header), *(",".join(row[name] for name in header if name in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_row_with_two_identities(tmp_path):
    dataset = read_registry(write(tmp_path, ROW))["trace"]
    assert [address.url for address in dataset.addresses] == ["https://one.example/t.csv", "http://two.example/t.csv"]
    assert dataset.identities == (Identity("crlf", 12, A), Identity("lf", 11, B))
    assert dataset.sizes == {11, 12}


def test_the_order_of_the_columns_is_free(tmp_path):
    assert read_registry(write(tmp_path, ROW, header=COLUMNS[::-1])) == read_registry(write(tmp_path, ROW))


def test_an_unknown_size_leaves_the_size_open(tmp_path):
    assert read_registry(write(tmp_path, ROW | {"bytes": "12|"}))["trace"].sizes == frozenset()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "Trace 1"}, "column 'name': found 'Trace 1'"),
        ({"name": "../trace"}, "column 'name'"),
        ({"file": "a/b.csv"}, "column 'file'"),
        ({"file": ".."}, "column 'file'"),
        ({"version": " "}, "column 'version'"),
        ({"licence": ""}, "column 'licence'"),
        ({"description": ""}, "column 'description'"),
        ({"urls": ""}, "at least one address"),
        ({"urls": "ftp://example.org/t.csv"}, "column 'urls'"),
        ({"urls": f"https://one.example/t.csv#sha256={A}"}, "column 'urls'"),
        ({"urls": "https://one.example/t.whl", "member": "in/t.csv"}, "column 'urls'"),
        ({"urls": "https://one.example/t.whl#sha256=12", "member": "in/t.csv"}, "column 'urls'"),
        ({"urls": "pypi:project==1"}, "column 'member'"),
        ({"urls": f"pypi:project>=1#sha256={A}", "member": "in/t.csv"}, "column 'urls'"),
        ({"sha256": A}, "1 in 'sha256'"),
        ({"bytes": "12"}, "1 in 'bytes'"),
        ({"identity": "one"}, "1 values in 'identity'"),
        ({"sha256": f"{A}|{A}"}, "different checksums"),
        ({"sha256": f"{A.upper()}|{B}"}, "column 'sha256'"),
        ({"sha256": f"{A[:-1]}|{B}"}, "column 'sha256'"),
        ({"bytes": "0|11"}, "column 'bytes'"),
        ({"bytes": "12.5|11"}, "column 'bytes'"),
        ({"bytes": "-12|11"}, "column 'bytes'"),
    ],
)
def test_a_wrong_value_is_refused_with_its_line(tmp_path, change, words):
    good = ROW | {"name": "first"}
    with pytest.raises(RegistryError) as caught:
        read_registry(write(tmp_path, good, ROW | change))
    assert "datasets.csv, line 3" in str(caught.value)
    assert words in str(caught.value)


def test_a_name_stands_once(tmp_path):
    with pytest.raises(RegistryError, match="line 4: name 'trace' stands in line 2 already"):
        read_registry(write(tmp_path, ROW, ROW | {"name": "other"}, ROW))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ((*COLUMNS, "mirror"), "unknown column 'mirror'"),
        (COLUMNS[1:], "column 'name' is missing"),
        ((*COLUMNS, "urls"), "column 'urls' stands there twice"),
    ],
)
def test_a_wrong_header_is_refused(tmp_path, header, words):
    with pytest.raises(RegistryError, match=words):
        read_registry(write(tmp_path, header=header))


def test_a_short_row_is_refused(tmp_path):
    path = write(tmp_path, ROW)
    path.write_text(path.read_text() + "short,1\n")
    with pytest.raises(RegistryError, match="line 3: found 2 values, expected 10"):
        read_registry(path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", None])
def test_no_table(tmp_path, content):
    path = tmp_path / "datasets.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RegistryError, match=r"datasets\.csv"):
        read_registry(path)


def test_which_identity_a_file_is(tmp_path):
    # The SHA-256 of "abc" and of nothing are published test vectors (FIPS 180-4).
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    dataset = read_registry(write(tmp_path, ROW | {"bytes": "3|11", "sha256": f"{abc}|{B}"}))["trace"]
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    assert dataset.identify(file).label == "crlf"
    file.write_bytes(b"abd")
    with pytest.raises(WrongFileError, match=f"wrong checksum: found sha256 .*expected {abc}"):
        dataset.identify(file)
    file.write_bytes(b"abcd")
    with pytest.raises(WrongFileError, match="wrong size: found 4 bytes, expected 3 or 11"):
        dataset.identify(file)


def test_the_projects_own_registry(root):
    datasets = read_registry(root / "config/datasets.csv")
    assert list(datasets) == [
        "burstgpt_1",
        "burstgpt_1_without_fails",
        "burstgpt_2",
        "burstgpt_3",
        "sharegpt_full",
        "sharegpt_subset",
        "tokenizer_mistral_v1",
        "tokenizer_llama_2",
    ]
    # CRLF has one byte more a line: 1,429,737 requests and the header.
    crlf, lf = datasets["burstgpt_1"].identities
    assert crlf.bytes - lf.bytes == 1_429_737 + 1
    for name, dataset in datasets.items():
        assert len(dataset.addresses) > 1 or dataset.member, f"{name} has one address only"
