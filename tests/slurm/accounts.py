"""A cluster that keeps accounts: jobs are followed by sacct, and their efficiency is reported.

apt-get install mariadb-server slurmdbd
python -m pytest -n 0 -s tests/slurm/accounts.py --override-ini python_files=accounts.py
"""

import getpass
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .conftest import Clone
from .minicluster import MiniCluster, free_ports, why_not

CELL = "serve/warmup/llama-2-7b-chat_a800_s1/run.json"


@contextmanager
def daemon(command: list[str], log: Path, environment: dict[str, str] | None = None) -> Iterator[None]:
    """Run a server until the block ends."""
    with open(log, "wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def database(folder: Path) -> Iterator[Path]:
    """MariaDB in a folder; yields its socket."""
    data, socket = folder / "data", folder / "socket"
    own = [f"--datadir={data}", f"--user={getpass.getuser()}", "--no-defaults"]
    subprocess.run(["mariadb-install-db", *reversed(own), "--auth-root-authentication-method=normal"], check=True)
    command = ["mariadbd", *reversed(own), f"--socket={socket}", "--skip-networking", f"--pid-file={folder / 'pid'}"]
    with daemon(command, folder / "mariadb.log"):
        for _ in range(300):
            if subprocess.run(["mariadb-admin", f"--socket={socket}", "ping"], capture_output=True).returncode == 0:
                break
            time.sleep(0.1)
        yield socket


class Accounting(MiniCluster):
    """A mini cluster with slurmdbd."""

    def __init__(self, folder: Path, socket: Path) -> None:
        self._dbd_port, self._socket = free_ports(1)[0], socket
        super().__init__(
            folder,
            AccountingStorageType="accounting_storage/slurmdbd",
            AccountingStorageHost="127.0.0.1",
            AccountingStoragePort=str(self._dbd_port),
            AccountingStoragePass=f"{folder}/munge/socket",
            AccountingStoreFlags="job_comment",  # the rule's name, in the report
            JobAcctGatherType="jobacct_gather/linux",
            JobAcctGatherFrequency="1",
        )

    def start_controller(self) -> None:
        """Start slurmdbd first, and make an account of this user."""
        conf = self.folder / "slurmdbd.conf"
        settings = {
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={self.folder}/munge/socket",
            "DbdHost": "localhost",
            "DbdAddr": "127.0.0.1",
            "DbdPort": self._dbd_port,
            "SlurmUser": "root",
            "PidFile": self.folder / "slurmdbd.pid",
            "StorageType": "accounting_storage/mysql",
            "StorageUser": "root",
            "StorageLoc": "slurm",
        }
        conf.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        conf.chmod(0o600)
        self.environment |= {"MYSQL_UNIX_PORT": str(self._socket)}
        wrapper = self.folder / "bin/slurmdbd"
        wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {shutil.which("slurmdbd")} "$@"\n')
        wrapper.chmod(0o755)
        self._start("slurmdbd", ["slurmdbd", "-D"])
        for _ in range(300):
            if self.slurm("sacctmgr --noheader list cluster && echo up", check=False).endswith("up\n"):
                break
            time.sleep(0.1)
        self.slurm("sacctmgr --immediate add cluster burstbench", check=False)
        self.slurm("sacctmgr --immediate add account p_1")
        self.slurm("sacctmgr --immediate add user root account=p_1")
        super().start_controller()


def test_a_cluster_that_keeps_accounts(tmp_path_factory: pytest.TempPathFactory) -> None:
    if reason := why_not():
        pytest.skip(reason)
    if missing := [name for name in ("mariadbd", "slurmdbd") if shutil.which(name) is None]:
        pytest.skip(f"{', '.join(missing)} not installed: apt-get install mariadb-server slurmdbd")
    with (
        database(tmp_path_factory.mktemp("database")) as socket,
        Accounting(tmp_path_factory.mktemp("slurm"), socket) as cluster,
    ):
        clone = Clone(tmp_path_factory.mktemp("clone"), cluster)
        clone.facts(account="p_1")
        print(clone.snakemake(CELL, profile="slurm_a800"))
        print(cluster.slurm("sacct --format=JobID,JobName%20,Partition,Account,State,Elapsed,MaxRSS"))
        reports = list(clone.folder.glob("efficiency_report*"))
        assert reports
        for path in reports:
            print(path.name, path.read_text() if path.is_file() else list(path.iterdir()))
