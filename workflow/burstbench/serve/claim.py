"""Which run a cell belongs to: the last one that started it.

SLURM starts a job again when it gives up its node. If only that node's link to SLURM is gone, the first run goes on
computing, and may end after the second with the same shared folder in reach. Each run therefore claims its cell when it
starts, in a file beside its logs, and looks before it writes results whether the cell is still its own. A run that has
lost it fails and writes nothing. (Its Snakemake deletes nothing either: see the Snakefile.)

Between looking and writing lie seconds, and a shared folder may show a file a minute old. A claim is made when a run
starts, and a run lasts for many minutes, so the order of two claims is that of the runs but for two that start at once.
"""

import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path

from burstbench.errors import UserError
from burstbench.files import read_json, write_json


class ClaimError(UserError):
    """Another run has the cell."""


class Claim:
    """A run's claim to its cell; making one takes the cell from whatever run had it.

    Without SLURM it works the same: of two runs of a cell the one that started last may write.

    Attributes:
        path: of the claim.
        run: who made it: job, node, process, and a number that no other run has.
    """

    def __init__(self, log: Path) -> None:
        """Claim the cell.

        Args:
            log: of the cell; the claim lies beside it, where no Snakemake removes it.

        Raises:
            OSError: it cannot be written.
        """
        self.path = log.with_suffix(".claim.json")
        # The number alone tells two runs apart. A requeued job keeps its own, and a step is not told of the restart.
        self.run = {
            "job": os.environ.get("SLURM_JOB_ID"),
            "node": os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
            "process": os.getpid(),
            "number": secrets.token_hex(6),
        }
        write_json(self.path, self.run)

    def demand(self) -> None:
        """Go on only if the cell is still this run's; call it before results are written.

        A claim that is gone was removed by hand: no other run has the cell.

        Raises:
            ClaimError: another run claimed the cell after this one.
        """
        if not self.path.exists():
            return
        other = read_json(self.path)
        if other != self.run:
            raise ClaimError(
                f"{self.path}: the cell belongs to {_named(other)}, which started after this run, {_named(self.run)}; "
                "nothing is written"
            )


def _named(run: Mapping[str, object]) -> str:
    job = f"job {run['job']}, " if run["job"] else ""
    return f"{job}process {run['process']} on {run['node']}"
