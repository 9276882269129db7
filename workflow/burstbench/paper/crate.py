"""The study as an RO-Crate, the standard form of a research object: files, their makers, and what they were made from.

It says what `provenance.json` says in the words of RO-Crate 1.1 (https://w3id.org/ro/crate/1.1) and of its profile
Process Run Crate 0.5 (https://w3id.org/ro/wfrun/process/0.5), and nothing else: `burstbench verify` makes it again and
compares. No job has a time in it, so that the same study is the same bytes.
"""

import argparse
import json
import mimetypes
from pathlib import Path
from typing import Any

from burstbench.errors import UserError
from burstbench.files import read_json, sha256, write_text

LICENCE = "https://spdx.org/licenses/Apache-2.0"
MAKERS = "#makers"
PAPER = "https://arxiv.org/abs/2401.17644v2"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_TYPES = {
    ".parquet": "application/vnd.apache.parquet",
    ".arrow": "application/vnd.apache.arrow.file",
    ".md": "text/markdown",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("--provenance", type=Path, required=True, metavar="JSON", help="the study's provenance.json")
    parser.add_argument("--out", type=Path, required=True, metavar="JSON", help="ro-crate-metadata.json, beside it")


def run(args: argparse.Namespace) -> None:
    """Write the crate's metadata."""
    write_text(args.out, crate(args.provenance))


def crate(provenance: Path) -> str:
    """Return the text of `ro-crate-metadata.json` for the folder in which `provenance` lies.

    Raises:
        UserError: the record is missing or not one of `burstbench paper provenance`.
    """
    record = read_json(provenance)
    try:
        graph = _graph(record, provenance)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{provenance}: {error!r}; expected a record of `burstbench paper provenance`") from error
    context = ["https://w3id.org/ro/crate/1.1/context", {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}]
    whole = {"@context": context, "@graph": graph}
    return json.dumps(whole, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _graph(record: dict[str, Any], provenance: Path) -> list[dict[str, Any]]:
    root = f"results/{record['study']}/"
    own = {"sha256": sha256(provenance), "bytes": provenance.stat().st_size}
    files = record["files"] | {f"{root}provenance.json": own}

    def reference(path: str) -> dict[str, str]:
        return {"@id": path.removeprefix(root) if path.startswith(root) else f"#{path}"}

    parts = [reference(path) for path in files if path.startswith(root)]
    actions = [f"#job/{job['outputs'][0]}" for job in record["jobs"]]
    marks = " ".join(f"{label}: {text}." for label, text in record["marks"].items())
    facts = record["facts"]
    graph: list[dict[str, Any]] = [
        {
            "@id": "ro-crate-metadata.json",
            "@type": "CreativeWork",
            "about": {"@id": "./"},
            "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
        },
        {
            "@id": "./",
            "@type": "Dataset",
            "name": f"BurstBench study {record['study']}",
            "description": f"Figures, tables and verdicts on the claims of the BurstGPT paper. {marks}".strip(),
            # No clock: a study is as old as the last day of the trace that it is about.
            "datePublished": facts["end"],
            "license": {"@id": LICENCE},
            "conformsTo": {"@id": PROFILE},
            "author": {"@id": MAKERS},
            "publisher": {"@id": MAKERS},
            "citation": {"@id": PAPER},
            "hasPart": parts,
            "mentions": [{"@id": action} for action in actions],
        },
        {"@id": PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"},
        {"@id": MAKERS, "@type": "Organization", "name": "The BurstBench maintainers"},
        {"@id": LICENCE, "@type": "CreativeWork", "name": "Apache License 2.0"},
        {
            "@id": PAPER,
            "@type": "ScholarlyArticle",
            "name": "Towards Efficient and Reliable LLM Serving: A Real-World Workload Study",
        },
    ]
    for path, said in files.items():
        inside = path.startswith(root)
        suffix = Path(path).suffix
        entity = {
            **reference(path),
            # What lies outside the folder cannot be a file of the crate.
            "@type": "File" if inside else "CreativeWork",
            "name": path.removeprefix(root),
            "sha256": said["sha256"],
            "contentSize": str(said["bytes"]),
            "encodingFormat": _TYPES.get(suffix) or mimetypes.guess_type(path)[0] or "application/octet-stream",
        }
        for key, term in (("url", "url"), ("version", "version"), ("licence", "license")):
            if key in said:
                entity[term] = said[key]
        graph.append(entity)
    tools: dict[str, dict[str, Any]] = {}
    for job, action in zip(record["jobs"], actions, strict=True):
        tool = f"#tool/{'-'.join(_verb(job['command']))}"
        tools[tool] = {
            "@id": tool,
            "@type": "SoftwareApplication",
            "name": " ".join(_verb(job["command"])),
            "softwareVersion": record["software"]["burstbench"],
            "softwareRequirements": ", ".join(f"{name} {version}" for name, version in record["software"].items()),
        }
        graph.append(
            {
                "@id": action,
                "@type": "CreateAction",
                "name": job["rule"],
                "description": job["command"],
                "agent": {"@id": MAKERS},
                "instrument": {"@id": tool},
                "object": _single([reference(path) for path in job["inputs"]]),
                "result": _single([reference(path) for path in job["outputs"]]),
            }
        )
    return [*graph, *tools.values()]


def _single(values: list[dict[str, str]]) -> Any:
    """One value stands by itself, as RO-Crate recommends."""
    return values[0] if len(values) == 1 else values


def _verb(command: str) -> list[str]:
    """The words of a command that name its program: `burstbench trace twin`."""
    words = command.split()
    return words[:3] if words[0] == "burstbench" else words[:1]
