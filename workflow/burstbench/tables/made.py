"""What every table hands to its files."""

from dataclasses import dataclass

from burstbench.figures.inputs import Artifact

NONE = "–"


@dataclass(frozen=True)
class Made:
    """A table: its rows of texts (header first), its caption, and the artifact with its origins."""

    artifact: Artifact
    rows: list[list[str]]
    caption: str
