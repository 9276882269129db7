"""The web page: one file that holds its styles, script, figures and data, and asks the network for nothing."""

import argparse
import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from burstbench import __version__
from burstbench.errors import UserError
from burstbench.figures.inputs import by_name, named_path
from burstbench.files import write_text
from burstbench.paper import document as documents
from burstbench.paper import interactive, provenance

# The paper's order, in the page's sections.
SECTIONS = (
    ("concurrency", "Concurrency over weeks and days", ("fig01", "fig02", "fig03", "fig04")),
    ("bursts", "Bursts of minutes", ("fig05", "fig06")),
    ("lengths", "Lengths of requests and responses", ("fig07", "fig08", "fig09")),
    ("traffic", "Traffic", ("fig10", "fig11", "fig12", "fig13")),
    ("reliability", "Reliability", ("fig14",)),
    ("generator", "The workload generator", ("fig15",)),
    ("evaluation", "Serving bursty streams", ("fig16", "fig17")),
)
# Figures beside the paper's own, by what their names begin with.
MORE = (
    ("validation", "Validation of the simulated engine", lambda name: not name.startswith("figS")),
    ("supplement", "Supplement: what stands behind the figures", lambda name: name.startswith("figS")),
)
LABELS = {
    "a800": "A800",
    "a6000": "A6000",
    "h100": "H100",
    "alpha": "α",
    "beta": "β",
    "theta": "θ",
    "beta_scale_s": "β as scale (s)",
    "beta_rate_per_s": "β as rate (1/s)",
    "api": "API",
    "kv_usage": "KV cache in use",
    "kv_usage_mean": "KV cache in use, mean",
    "latency_s": "latency (s)",
    "throughput_tokens_per_s": "tokens/s",
    "here": "this study",
    "zipf": "Zipf",
    "powerlaw_cutoff": "power law with cutoff",
    "mean": "mean of the seeds",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("--template", type=Path, required=True, metavar="J2", help="Jinja template of the page")
    documents.add_options(parser)
    parser.add_argument(
        "--table", type=named_path, action="append", metavar="NAME=PATH", help="a table of the metrics room"
    )
    parser.add_argument(
        "--script", type=Path, nargs="+", default=[], metavar="JS", help="scripts of the page: the library, the charts"
    )
    parser.add_argument("--metadata", type=Path, metavar="DIR", help="Snakemake's records of jobs, for the graph")
    parser.add_argument("--out", type=Path, required=True, metavar="HTML", help="the page")


def run(args: argparse.Namespace) -> None:
    """Make the page."""
    render(documents.from_options(args), args.template, args.out, by_name(args.table), args.metadata, args.script)


def render(
    document: documents.Document,
    template: Path,
    out: Path,
    tables: Mapping[str, Path] | None = None,
    metadata: Path | None = None,
    scripts: Sequence[Path] = (),
) -> None:
    """Render the page.

    Figures are SVG in data addresses, so that their identifiers cannot meet each other's; every table can be saved from
    the page as CSV. All values are escaped.

    Args:
        document: what to show.
        template: Jinja template.
        out: the page.
        tables: tables of the metrics room by name, for the runs.
        metadata: folder of Snakemake's records of jobs, for the graph of provenance; None for no graph.
        scripts: what the page runs, in this order: the plotting library, then the charts. Without them it shows the
            figures as printed.

    Raises:
        UserError: the template is missing, or uses a name or key that is not there.
    """
    import jinja2
    import markupsafe

    for path, what in ((template, "the page's Jinja template"), *((path, "a script of the page") for path in scripts)):
        if not path.is_file():
            raise UserError(f"{path}: no such file ({what})")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["percent"] = lambda share, digits=1: f"{100 * share:.{digits}f} %"
    environment.filters["thousands"] = lambda number: f"{number:,}"
    tables = tables or {}
    data = documents.as_data(document)
    more = [figure.id for figure in document.figures if figure.id not in documents.FIGURES]
    drawn = {figure.id: figure.files["csv"] for figure in document.figures}
    own = [(section, title, [name for name in ids if name in drawn]) for section, title, ids in SECTIONS]
    beside = [(kind, title, [name for name in more if of(name)]) for kind, title, of in MORE]
    steps = _graph(document, tables, metadata)
    page = {
        "labels": LABELS,
        "views": interactive.views(drawn),
        "seeds": interactive.seeds_of(tables, drawn.get("fig17")),
        "runs": interactive.runs(tables),
        "graph": steps,
        "versions": provenance.software(),
    }
    makers = {file["path"]: node["id"] for node in steps["nodes"] for file in node["files"]}
    try:
        text = environment.get_template(template.name).render(
            **data,
            sections=[section for section in (*own, *beside) if section[2]],
            files=_files(document),
            version=__version__,
            page=page,
            page_json=markupsafe.Markup(_script_json(page)),
            scripts=[markupsafe.Markup(script.read_text(encoding="utf-8")) for script in scripts],
            makers=makers,
            evidence=_evidence(document, makers),
            titles={exhibit.anchor: _called(exhibit) for exhibit in (*document.figures, *document.tables)},
        )
    except UnicodeDecodeError as error:
        raise UserError(f"{template}: not a text in UTF-8: {error}") from error
    except jinja2.TemplateError as error:
        line = f", line {error.lineno}" if isinstance(error, jinja2.TemplateSyntaxError) else ""
        raise UserError(f"{template}{line}: {error.message}") from error
    write_text(out, text)


def _script_json(value: Any) -> str:
    """Return JSON that may stand in a script element: no sign in it can end one."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True).replace("<", "\\u003c")


def _graph(document: documents.Document, tables: Mapping[str, Path], metadata: Path | None) -> dict[str, Any]:
    if metadata is None:
        return interactive.graph([], {})
    shown = [path for exhibit in (*document.figures, *document.tables) for path in exhibit.files.values()]
    shown += [Path(source.path) for source in document.sources]
    paths, jobs = provenance.trace_back([*shown, *tables.values()], metadata, document.facts["study"])
    return interactive.graph(jobs, provenance.describe(paths), ("paper.pdf", "report.html"))


def _called(exhibit: documents.Exhibit) -> str:
    return f"{'Table' if exhibit.rows else 'Fig.'} {exhibit.number}"


def _evidence(document: documents.Document, makers: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return, for each table that verdicts name as evidence, the step that made it and what else shows it."""
    shown: dict[str, list[str]] = {}
    for exhibit in (*document.figures, *document.tables):
        for source in exhibit.inputs:
            shown.setdefault(source.path, []).append(exhibit.anchor)
    named = {file for row in document.scorecard for file in row["evidence"].split("; ")}
    found = {}
    for path, node in makers.items():
        for file in named:
            if file and path.endswith(f"/{file}"):
                found[file] = {"node": node, "exhibits": shown.get(path, [])}
    return found


def _files(document: documents.Document) -> dict[str, dict[str, Any]]:
    """Return the files that the page carries, as data addresses: by exhibit and suffix, and by the name of a source."""
    carried: dict[str, dict[str, Any]] = {}
    for exhibit in (*document.figures, *document.tables):
        carried[exhibit.anchor] = {
            suffix: _data_address(path) for suffix, path in exhibit.files.items() if suffix in {"svg", "csv"}
        }
    for source in document.sources:
        path = Path(source.path)
        carried[source.name] = {"name": path.name, "data": _data_address(path)}
    return carried


_TYPES = {".svg": "image/svg+xml", ".csv": "text/csv;charset=utf-8", ".json": "application/json"}


def _data_address(path: Path) -> str:
    return f"data:{_TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
