import subprocess
import sys

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
