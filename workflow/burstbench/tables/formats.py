"""A table of texts as Markdown and as LaTeX."""

from collections.abc import Sequence

from tabulate import tabulate

LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "θ": r"$\theta$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "−": r"$-$",
    "·": r"$\cdot$",
    "–": "--",
    "…": r"\ldots{}",
}


def latex_text(text: str) -> str:
    """Return a text with LaTeX's special characters escaped, and the signs of this project as commands."""
    return "".join(LATEX.get(character, character) for character in text)


def markdown(title: str, caption: str, rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with its title above and its caption below.

    Args:
        title: one line, in bold.
        caption: full sentences.
        rows: header first; all of one length.
    """
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    table = tabulate(cells[1:], headers=cells[0], tablefmt="pipe", disable_numparse=True)
    return f"**{title}**\n\n{table}\n\n{caption}\n"


def latex(label: str, title: str, caption: str, rows: Sequence[Sequence[str]]) -> str:
    r"""Return a LaTeX table environment in the style of booktabs.

    Args:
        label: for `\ref`.
        title: begins the caption.
        caption: full sentences.
        rows: header first; all of one length. The first column is a label, the others are centred.
    """
    lines = [" & ".join(map(latex_text, row)) + r" \\" for row in rows]
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table*}[t]",
            r"  \centering",
            r"  \small",
            rf"  \caption{{{latex_text(f'{title}. {caption}')}}}",
            rf"  \label{{tab:{label}}}",
            rf"  \begin{{tabular}}{{l{'c' * (len(rows[0]) - 1)}}}",
            r"    \toprule",
            f"    {lines[0]}",
            r"    \midrule",
            *(f"    {line}" for line in lines[1:]),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table*}",
            "",
        ]
    )
