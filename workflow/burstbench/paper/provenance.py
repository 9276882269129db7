"""The record of what every artifact was made from."""

import argparse
import importlib.metadata
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from burstbench import __version__
from burstbench.errors import UserError
from burstbench.files import sha256, write_json
from burstbench.paper import document as documents

# Packages whose version can change a number or a picture.
PACKAGES = (
    "numpy",
    "scipy",
    "pyarrow",
    "numba",
    "matplotlib",
    "typst",
    "jinja2",
    "sentencepiece",
    "diptest",
    "snakemake",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    documents.add_options(parser)
    parser.add_argument(
        "--artifact", type=Path, nargs="+", action="extend", default=[], metavar="FILE",
        help="files made from all of it: the paper, the page",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="JSON", help="the record")


def run(args: argparse.Namespace) -> None:
    """Write the record."""
    write_json(args.out, record(documents.from_options(args), args.artifact))


def record(document: documents.Document, whole: Sequence[Path] = ()) -> dict[str, Any]:
    """Return what every artifact was made from.

    Args:
        document: the study's figures, tables, verdicts and parameters.
        whole: files made from the whole document.

    Returns:
        `study`, `software` (versions), `facts`, `marks`, and `artifacts`: by path the `sha256`, the `inputs` (name,
        path, sha256) and the `marks` of each file.

    Raises:
        UserError: a file of `whole` is missing.
    """
    labels = [label for label, _ in document.marks]
    artifacts: dict[str, Any] = {}
    for exhibit in (*document.figures, *document.tables):
        inputs = [vars(source) for source in exhibit.inputs]
        for path in exhibit.files.values():
            artifacts[str(path)] = {
                "sha256": sha256(path),
                "inputs": inputs,
                "marks": [exhibit.badge] if exhibit.badge else [],
            }
    parts = [{"name": Path(path).stem, "path": path, "sha256": made["sha256"]} for path, made in artifacts.items()]
    parts += [vars(source) for source in (*document.sources, *documents.run_records(document))]
    for path in whole:
        if not path.is_file():
            raise UserError(f"{path}: no such file (an artifact whose provenance is to be recorded)")
        artifacts[str(path)] = {"sha256": sha256(path), "inputs": parts, "marks": labels}
    return {
        "study": document.facts["study"],
        "software": {
            "burstbench": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in PACKAGES},
        },
        "facts": document.facts,
        "marks": {label: text for label, text in document.marks},
        "artifacts": artifacts,
    }
