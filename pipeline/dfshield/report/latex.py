"""Tables in LaTeX, with the packages booktabs and amssymb."""

import re
from collections.abc import Sequence
from itertools import groupby

_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "†": r"\textdagger{}",
    "✓": r"\checkmark{}",
    "✗": r"$\times$",
    "λ1": r"$\lambda_1$",
    "λ2": r"$\lambda_2$",
    "τ": r"$\tau$",
    "ε": r"$\varepsilon$",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "–": "--",
    "×": r"$\times$",
}


def latex_tabular(
    *,
    caption: str,
    labels: Sequence[str],
    headings: Sequence[tuple[str, str]],
    rows: Sequence[Sequence[str]],
    notes: Sequence[tuple[str, str]],
) -> str:
    """Return a table in LaTeX.

    Args:
        caption: above it.
        labels: heads of the columns that name a row.
        headings: of the columns of numbers: what spans several, which may be empty, and its own.
        rows: in LaTeX already: labels, then numbers.
        notes: the lines below, each with its sign, which may be empty.
    """
    return "\n".join(
        [
            "% \\usepackage{booktabs,amssymb}",
            r"\begin{table}",
            rf"\caption{{{latex_text(caption)}}}",
            rf"\begin{{tabular}}{{{'l' * len(labels)}{'r' * len(headings)}}}",
            r"\toprule",
            *_spanning(headings, after=len(labels)),
            _line([*map(latex_text, labels), *(latex_text(own) for _, own in headings)]),
            r"\midrule",
            *map(_line, rows),
            r"\bottomrule",
            r"\end{tabular}",
            *(rf"\par\footnotesize {raised(s)}{latex_text(text)}" for s, text in notes),
            r"\end{table}",
            "",
        ]
    )


def latex_text(text: str) -> str:
    """Return text that LaTeX shows as it stands."""
    return "".join(_LATEX.get(sign, sign) for sign in re.findall(r"λ\d|.", text))


def raised(sign: str) -> str:
    """Return a sign above the line; empty for none."""
    return rf"\textsuperscript{{{latex_text(sign)}}}" if sign else ""


def _line(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _spanning(headings: Sequence[tuple[str, str]], *, after: int) -> list[str]:
    """Return the line of headings that span columns, if there are any."""
    if not any(group for group, _ in headings):
        return []
    spans = [(group, len(list(run))) for group, run in groupby(headings, key=lambda h: h[0])]
    cells = [rf"\multicolumn{{{width}}}{{c}}{{{latex_text(group)}}}" for group, width in spans]
    return [_line([""] * after + cells)]
