"""A real SLURM on this machine: slurmctld, two nodes with eight GPU files each, munge; all in one folder, as root.

As a script it stays up until it is interrupted:

    python tests/slurm/minicluster.py /tmp/cluster        # prints what to export to use it
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# Node, its GPUs' type and its partition bear one name, as in profiles/cluster.yaml.
GPUS = ("a800", "a6000")
COMMANDS = (
    "sbatch",
    "srun",
    "squeue",
    "sinfo",
    "scancel",
    "scontrol",
    "sacct",
    "sacctmgr",
    "sshare",
    "slurmctld",
    "slurmd",
)
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
# What the profiles ask for is declared, whatever this machine has: SLURM is told to believe it (config_overrides).
CPUS, MEMORY_MB = 128, 1_000_000


def why_not() -> str | None:
    """Why a cluster cannot be started here, or None."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a SLURM of one's own needs root on Linux"
    if missing := [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]:
        return f"{', '.join(missing)} not installed: bash tests/packages"
    try:  # as the daemons ask where to listen
        socket.getaddrinfo(None, 0, socket.AF_INET, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG)
    except socket.gaierror:
        return "SLURM does not start on a machine that has no IPv4 address but the loopback's"
    return None


_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])


def free_ports(count: int) -> list[int]:
    """Ports that are free now, all different."""
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


class MiniCluster:
    """The cluster; a context manager that ends every process it started.

    Args:
        folder: for configuration, state, logs and GPU files.
        partitions: further lines of slurm.conf, for example partitions with a priority of their own.
        credential_s: how long a job may take to start, and how long one waits that was put back into the queue.
        settings: further settings of slurm.conf, in place of those here.
    """

    def __init__(self, folder: Path, partitions: str = "", credential_s: int = 120, **settings: str) -> None:
        self.folder = folder
        # The plugin takes SLURM_CONF out of the environment of `srun`: the commands themselves know the configuration.
        self.environment = {"PATH": os.pathsep.join([str(folder / "bin"), _PATH])}
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._partitions, self._credential_s, self._settings = partitions, credential_s, settings

    def __enter__(self) -> "MiniCluster":
        try:
            self._configure()
            self._start_munge()
            self.start_controller()
            for gpu in GPUS:
                self.start_node(gpu)
            self._wait_until_idle()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End jobs and daemons."""
        if "slurmctld" in self.daemons:
            for state in ("", "--state=PENDING"):
                self.slurm(f"scancel --user=root {state}", check=False)
            end = time.monotonic() + 10
            while time.monotonic() < end and self.slurm("squeue --noheader", check=False).strip():
                time.sleep(0.2)
        for name in [*(name for name in self.daemons if name != "munged"), "munged"]:
            self.stop(name)

    def stop(self, name: str, how: int = signal.SIGTERM) -> None:
        """Stop one daemon: ``slurmctld``, ``a800-1``, ``a6000-1`` or ``munged``."""
        process = self.daemons.pop(name, None)
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def start_controller(self) -> None:
        """Start slurmctld, with the state that an earlier one left."""
        self._start("slurmctld", ["slurmctld", "-D"])

    def start_node(self, gpu: str) -> None:
        """Start the node of one GPU type."""
        self._start(f"{gpu}-1", ["slurmd", "-D", "-N", f"{gpu}-1"])

    def slurm(self, command: str, check: bool = True) -> str:
        """Run a command of SLURM and return what it printed."""
        done = subprocess.run(
            command, shell=True, env=os.environ | self.environment, capture_output=True, text=True, timeout=60
        )
        if check and done.returncode:
            raise RuntimeError(f"{command}: {done.stdout}{done.stderr}{self.tail()}")
        return done.stdout

    def finished_jobs(self) -> list[dict[str, str]]:
        """What SLURM wrote down of every job that ended, in order: JobId, Partition, JobState, NodeList ..."""
        log = self.folder / "completed"
        lines = log.read_text().splitlines() if log.exists() else []
        return [dict(pair.split("=", 1) for pair in line.split() if "=" in pair) for line in lines]

    def submitted(self) -> list[str]:
        """The arguments of each call of sbatch, in order."""
        return (self.folder / "submitted").read_text().splitlines()

    def tail(self) -> str:
        """The ends of the daemons' logs, for a message."""
        return "".join(f"\n--- {log.name}\n{log.read_text()[-1500:]}" for log in sorted(self.folder.glob("*.log")))

    def _start(self, name: str, command: list[str]) -> None:
        with open(self.folder / f"{name}.log", "ab") as log:
            self.daemons[name] = subprocess.Popen(
                command, env=os.environ | self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _start_munge(self) -> None:
        munge = self.folder / "munge"
        munge.mkdir(mode=0o755)
        key = munge / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        files = [f"--{name}={munge / name}" for name in ("socket", "pid-file", "log-file", "seed-file")]
        # A folder below /tmp may be written to by all; munged would refuse that without --force.
        self._start("munged", ["munged", "--foreground", "--force", f"--key-file={key}", *files])
        end = time.monotonic() + 10
        while not (munge / "socket").exists():
            if time.monotonic() > end:
                raise RuntimeError(f"munged did not start{self.tail()}")
            time.sleep(0.02)

    def _configure(self) -> None:
        for name in ("state", "spool", "gpus", "bin"):
            (self.folder / name).mkdir(parents=True)
        controller, *nodes = free_ports(1 + len(GPUS))
        host = socket.gethostname()
        settings: dict[str, Any] = {
            "ClusterName": "burstbench",
            "SlurmctldHost": f"{host}(127.0.0.1)",
            "SlurmctldPort": controller,
            "SlurmUser": "root",
            "SlurmdUser": "root",
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={self.folder}/munge/socket,cred_expire={self._credential_s}",
            "StateSaveLocation": self.folder / "state",
            "SlurmdSpoolDir": self.folder / "spool/%n",
            "SlurmctldPidFile": self.folder / "slurmctld.pid",
            "SlurmdPidFile": self.folder / "slurmd-%n.pid",
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_CPU_Memory",
            "GresTypes": "gpu",
            "JobAcctGatherType": "jobacct_gather/none",
            "AccountingStorageType": "accounting_storage/none",
            "JobCompType": "jobcomp/filetxt",
            "JobCompLoc": self.folder / "completed",
            "MpiDefault": "none",
            "ReturnToService": 2,
            "SlurmdParameters": "config_overrides",
            # Quick to see what happens, so that tests need not wait.
            "SchedulerParameters": "sched_min_interval=100000,bf_interval=1,batch_sched_delay=0",
            "SlurmdTimeout": 60,
            "KillWait": 2,
            "MinJobAge": 300,
            "OverTimeLimit": 0,
        } | self._settings
        lines = [f"{key}={value}" for key, value in settings.items()]
        gres = []
        for gpu, port in zip(GPUS, nodes, strict=True):
            lines.append(
                f"NodeName={gpu}-1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={CPUS} "
                f"RealMemory={MEMORY_MB} Gres=gpu:{gpu}:8 Feature={gpu},tested"
            )
            lines.append(f"PartitionName={gpu} Nodes={gpu}-1 MaxTime=INFINITE State=UP")
            for number in range(8):
                os.mknod(self.folder / f"gpus/{gpu}-{number}", 0o20666, os.makedev(1, 3))
            gres.append(f"NodeName={gpu}-1 Name=gpu Type={gpu} File={self.folder}/gpus/{gpu}-[0-7]")
        nodes_named = ",".join(f"{gpu}-1" for gpu in GPUS)
        lines.append(f"PartitionName=cpu Nodes={nodes_named} Default=YES MaxTime=INFINITE State=UP")
        for name in COMMANDS:
            wrapper = self.folder / "bin" / name
            real = shutil.which(name, path=_PATH)
            note = f'echo "$*" >> {self.folder}/submitted\n' if name == "sbatch" else ""
            wrapper.write_text(f'#!/bin/sh\n{note}SLURM_CONF={self.folder}/slurm.conf exec {real} "$@"\n')
            wrapper.chmod(0o755)
        (self.folder / "slurm.conf").write_text("\n".join([*lines, self._partitions]) + "\n")
        (self.folder / "gres.conf").write_text("\n".join(gres) + "\n")
        # Nothing above uses cgroups, but slurmd starts one of their plugins all the same. Left to choose, on cgroup v2
        # it takes the one that wants a place in the tree from systemd, and dies without. The one of v1 wants nothing.
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")

    def _wait_until_idle(self) -> None:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            states = self.slurm("sinfo --noheader --Node --format=%T", check=False).split()
            if len(states) >= len(GPUS) and set(states) == {"idle"}:
                return
            time.sleep(0.1)
        raise RuntimeError(f"the nodes did not get ready: {self.slurm('sinfo -R', check=False)}{self.tail()}")


def main(folder: str | None = None) -> None:
    """Keep a cluster up until SIGINT or SIGTERM."""
    if reason := why_not():
        sys.exit(f"minicluster: {reason}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    place = Path(folder) if folder else Path(tempfile.mkdtemp(prefix="slurm-"))
    with MiniCluster(place):
        print(f"export PATH={place}/bin:$PATH", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:2])
