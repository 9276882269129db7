"""The paper: one Typst template, the figures as vectors, every number from the data beside it."""

import argparse
import importlib.util
import json
import shutil
import tempfile
from pathlib import Path

from burstbench.errors import UserError
from burstbench.files import replaced
from burstbench.paper import document as documents


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("--template", type=Path, required=True, metavar="TYP", help="Typst source of the paper")
    documents.add_options(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="PDF", help="the paper")


def run(args: argparse.Namespace) -> None:
    """Typeset the paper."""
    typeset(documents.from_options(args), args.template, args.out)


def typeset(document: documents.Document, template: Path, out: Path) -> None:
    """Typeset the paper as tagged PDF that meets PDF/UA-1, with embedded fonts.

    The template is compiled in a folder that holds it, ``data.json`` (`document.as_data`) and the figures' SVGs, and
    sees nothing else: no system font, no network. The file holds no date, so the same inputs give the same bytes.

    Args:
        document: what to print.
        template: Typst source.
        out: the PDF.

    Raises:
        UserError: the template is missing, or Typst refuses it; the message is Typst's, with its line.
    """
    import typst

    if not template.is_file():
        raise UserError(f"{template}: no such file (the paper's Typst template)")
    with tempfile.TemporaryDirectory(prefix="burstbench-paper-") as folder:
        root = Path(folder)
        shutil.copyfile(template, root / "paper.typ")
        (root / "data.json").write_text(json.dumps(documents.as_data(document)), encoding="utf-8")
        for figure in document.figures:
            shutil.copyfile(figure.files["svg"], root / f"{figure.id}.svg")
        try:
            pdf = typst.compile(
                root / "paper.typ",
                root=root,
                font_paths=_fonts(),
                ignore_system_fonts=True,
                pdf_standards=["ua-1"],  # type: ignore[list-item]  # the stub's list of standards is an old one
            )
        except typst.TypstError as error:
            hints = "; ".join(getattr(error, "hints", None) or [])
            raise UserError(f"{template}: {error.message}{f' ({hints})' if hints else ''}") from error
    with replaced(out) as temporary:
        temporary.write_bytes(pdf)


def _fonts() -> list[Path]:
    """Return the folder of the DejaVu fonts that matplotlib ships, found without importing it.

    Typst's own fonts have no sans serif; the figures are lettered in this one.
    """
    package = importlib.util.find_spec("matplotlib")
    if package is None or package.origin is None:
        raise UserError("matplotlib is not installed; the paper takes its sans serif font from it")
    return [Path(package.origin).parent / "mpl-data" / "fonts" / "ttf"]
