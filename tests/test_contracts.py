import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from burstbench import contracts
from burstbench.contracts import Column, Contract, ContractError

TINY = Contract(
    "tiny",
    "a test",
    (
        Column("t", contracts.FLOAT, "s", "time", minimum=0),
        Column("kind", contracts.TEXT, "", "label", allowed=("a", "b")),
        Column("n", contracts.INT, "tokens", "count", nullable=True, minimum=0, maximum=9),
    ),
    ascending="t",
    key=("kind", "n"),
)
GOOD = {"t": [0.0, 1.5, 1.5], "kind": ["a", "b", "a"], "n": [1, 2, None]}


def test_what_is_written_is_read(tmp_path):
    TINY.write(GOOD, tmp_path / "x.parquet")
    table = TINY.read(tmp_path / "x.parquet")
    assert table.to_pydict() == GOOD
    assert table.schema.field("n").metadata[b"unit"] == b"tokens"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t": [0.0, -1.0, 1.5]}, "column 't', row 1: found -1.0, expected >= 0 [s]"),
        ({"t": [0.0, float("nan"), 1.5]}, "column 't', row 1: found nan, expected a finite number"),
        ({"t": [0.0, float("inf"), 1.5]}, "column 't', row 1: found inf, expected a finite number"),
        ({"t": [0.0, 2.0, 1.5]}, "column 't', row 2: found 1.5 after 2.0"),
        ({"t": [0.0, None, 1.5]}, "column 't', row 1: found None, expected a value"),
        ({"kind": ["a", "c", "a"]}, "column 'kind', row 1: found 'c', expected one of a, b"),
        ({"n": [1, 10, None]}, "column 'n', row 1: found 10, expected <= 9 [tokens]"),
        ({"n": [1, 2, 1]}, "kind = 'a', n = 1 stands in more than one row"),
        ({"n": [1.5, 2, 1]}, "column 'n': found double, expected int64"),
        ({"extra": [1, 2, 3]}, "column 'extra' is not in contract 'tiny'"),
    ],
)
def test_a_broken_table_is_refused_when_written(tmp_path, change, message):
    with pytest.raises(ContractError) as error:
        TINY.write(GOOD | change, tmp_path / "x.parquet")
    assert message in str(error.value)
    assert "x.parquet" in str(error.value)
    assert list(tmp_path.iterdir()) == [], "nothing half written stays"


def test_a_broken_file_is_refused_when_read(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table(GOOD | {"n": [1, -2, 3]}), path)
    with pytest.raises(ContractError, match=r"x\.parquet: column 'n', row 1: found -2"):
        TINY.read(path)
    pq.write_table(pa.table({"t": [0.0]}), path)
    with pytest.raises(ContractError, match="column 'kind' is missing"):
        TINY.read(path)
    path.write_bytes(b"no parquet")
    with pytest.raises(ContractError, match=r"x\.parquet: not a readable Parquet file"):
        TINY.read(path)
    with pytest.raises(ContractError, match="no such file"):
        TINY.read(tmp_path / "absent.parquet")


def test_labels_may_come_as_a_dictionary(tmp_path):
    contract = Contract("tiny", "a test", TINY.columns)
    labels = pa.chunked_array([pa.array(["a"]).dictionary_encode(), pa.array(["b", "a"]).dictionary_encode()])
    contract.write(GOOD | {"kind": labels}, tmp_path / "x.parquet")
    table = contract.read(tmp_path / "x.parquet")
    assert table.to_pydict() == GOOD
    assert pq.read_table(tmp_path / "x.parquet").schema.equals(contract.schema, check_metadata=True)
    for wrong, found in ((pa.array(["a", "c", "a"]), "row 1: found 'c'"), (pa.array(["a", "b", None]), "row 2: found")):
        with pytest.raises(ContractError, match=found):
            contract.write(GOOD | {"kind": wrong.dictionary_encode()}, tmp_path / "x.parquet")


def test_an_earlier_file_survives_a_refused_write(tmp_path):
    path = tmp_path / "x.parquet"
    TINY.write(GOOD, path)
    before = path.read_bytes()
    with pytest.raises(ContractError):
        TINY.write(GOOD | {"t": [3.0, 2.0, 1.0]}, path)
    assert path.read_bytes() == before


def test_same_table_same_bytes(tmp_path):
    for name in ("a", "b"):
        TINY.write(GOOD, tmp_path / f"{name}.parquet")
        TINY.write(GOOD, tmp_path / f"{name}.csv")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_every_contract_describes_every_column():
    for contract in contracts.CONTRACTS.values():
        names = [column.name for column in contract.columns]
        assert len(set(names)) == len(names), contract.name
        assert set(contract.key) <= set(names), contract.name
        for column in contract.columns:
            assert column.description, f"{contract.name}.{column.name}"
            if column.type in (contracts.INT, contracts.FLOAT):
                assert column.unit, f"{contract.name}.{column.name} has no unit"
