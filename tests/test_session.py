import subprocess
import sys
import time

HOLDER = """
import sys, time
from pathlib import Path
from burstbench.session import clear_stale
clear_stale(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""
ASKER = """
import sys
from pathlib import Path
from burstbench.session import clear_stale
clear_stale(Path(sys.argv[1]))
"""


def test_only_a_dead_process_loses_its_locks(tmp_path):
    folder = tmp_path / ".snakemake"
    locks = folder / "locks"
    locks.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        locks.mkdir(exist_ok=True)
        (locks / "0.output.lock").write_text("results/default/paper.pdf\n")
        subprocess.run([sys.executable, "-c", ASKER, str(folder)], check=True)
        assert (locks / "0.output.lock").exists(), "a living run keeps its locks"
        holder.kill()
    time.sleep(0.1)
    subprocess.run([sys.executable, "-c", ASKER, str(folder)], check=True)
    assert not locks.exists() or not list(locks.iterdir())
