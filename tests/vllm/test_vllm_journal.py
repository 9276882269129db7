"""What a killed engine leaves can be read, up to the last flush."""

import numpy as np
from burstbench.serve import journal


def test_rows_come_back_after_a_flush(tmp_path):
    writer = journal.Writer(tmp_path / "events", journal.EVENT)
    writer.add(journal.ADDED, 7, 1000, 12, 64, 0)
    writer.add(journal.ENDED, 7, 2000, 1, 64, 0)
    writer.flush()
    rows = journal.read(tmp_path / "events", journal.EVENT)
    assert rows["request"].tolist() == [7, 7]
    assert rows["time_ns"].tolist() == [1000, 2000]
    assert rows["a"].tolist() == [12, 1]


def test_many_rows_are_written_before_the_end(tmp_path):
    writer = journal.Writer(tmp_path / "steps", journal.STEP)
    for row in range(journal.FLUSH_ROWS + 3):
        writer.add(*[row] * 9)
    assert len(journal.read(tmp_path / "steps", journal.STEP)) == journal.FLUSH_ROWS


def test_old_rows_are_written_with_the_next_one(tmp_path, monkeypatch):
    writer = journal.Writer(tmp_path / "steps", journal.STEP)
    writer.add(*[1] * 9)
    assert len(journal.read(tmp_path / "steps", journal.STEP)) == 0
    later = journal.time.monotonic() + journal.FLUSH_S + 0.01
    monkeypatch.setattr(journal.time, "monotonic", lambda: later)
    writer.add(*[2] * 9)
    assert len(journal.read(tmp_path / "steps", journal.STEP)) == 2


def test_a_row_cut_in_half_is_left_out(tmp_path):
    path = tmp_path / "events"
    whole = np.zeros(3, journal.EVENT)
    whole["request"] = [1, 2, 3]
    for cut in (1, 47):
        path.write_bytes(whole.tobytes()[:-cut])
        assert journal.read(path, journal.EVENT)["request"].tolist() == [1, 2]


def test_no_file_is_no_rows(tmp_path):
    assert len(journal.read(tmp_path / "none", journal.STEP)) == 0
