"""The web page: one file that holds its styles, script, figures and data, and asks the network for nothing."""

import argparse
import base64
from pathlib import Path
from typing import Any

from burstbench import __version__
from burstbench.errors import UserError
from burstbench.files import write_text
from burstbench.paper import document as documents

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("--template", type=Path, required=True, metavar="J2", help="Jinja template of the page")
    documents.add_options(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="HTML", help="the page")


def run(args: argparse.Namespace) -> None:
    """Make the page."""
    render(documents.from_options(args), args.template, args.out)


def render(document: documents.Document, template: Path, out: Path) -> None:
    """Render the page.

    Figures are SVG in data addresses, so that their identifiers cannot meet each other's; every table can be saved from
    the page as CSV. All values are escaped.

    Args:
        document: what to show.
        template: Jinja template.
        out: the page.

    Raises:
        UserError: the template is missing, or uses a name or key that is not there.
    """
    import jinja2

    if not template.is_file():
        raise UserError(f"{template}: no such file (the page's Jinja template)")
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
    try:
        page = environment.get_template(template.name).render(
            **documents.as_data(document), sections=SECTIONS, files=_files(document), version=__version__
        )
    except jinja2.TemplateError as error:
        line = f", line {error.lineno}" if isinstance(error, jinja2.TemplateSyntaxError) else ""
        raise UserError(f"{template}{line}: {error.message}") from error
    write_text(out, page)


def _files(document: documents.Document) -> dict[str, dict[str, Any]]:
    """Return the files that the page carries, as data addresses: by exhibit and suffix, and by the name of a source."""
    carried: dict[str, dict[str, Any]] = {}
    for exhibit in (*document.figures, *document.tables):
        carried[exhibit.id] = {
            suffix: _data_address(path) for suffix, path in exhibit.files.items() if suffix in {"svg", "csv"}
        }
    for source in document.sources:
        path = Path(source.path)
        carried[source.name] = {"name": path.name, "data": _data_address(path)}
    return carried


_TYPES = {".svg": "image/svg+xml", ".csv": "text/csv;charset=utf-8", ".json": "application/json"}


def _data_address(path: Path) -> str:
    return f"data:{_TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
