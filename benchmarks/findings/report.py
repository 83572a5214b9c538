"""The findings as text, as a Markdown table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from latentcmp._runtime.files import atomic_files
from latentcmp._runtime.types import Metadata
from latentcmp.measures.error_matrix import ErrorMatrix

from .finding import Finding
from .tables import ErrorTables

NAMES = ("findings.md", "findings.json")


def text(findings: Sequence[Finding]) -> str:
    """A table for the terminal: finding, answer and reason, with the figures below."""
    wide = max(len(finding.finding) for finding in findings)
    lines = [f"{'finding':<{wide}}  agrees"]
    for finding in findings:
        lines += ["", f"{finding.finding:<{wide}}  {finding.answer}", f"    {finding.why}"]
        lines += [f"    {_number(value)}  {name}" for name, value in finding.figures.items()]
    return "\n".join(lines)


def markdown(about: Metadata, findings: Sequence[Finding]) -> str:
    """The findings as a table under what made them."""
    structures = about["structures"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    seeds = list(map(str, about["seeds"]))
    head = [
        "# Findings of arXiv 2512.05717, recomputed",
        "",
        f"`latentcmp bench findings` on {about['device']}, {about['date']}; {about['recipe']}; "
        f"{len(about['models'])} checkpoints, {structures['n_systems']} built-in structures, {structures['n_atoms']} "
        f"atoms; {versions}.",
        "",
        "Errors are GFRE between last layers unless said; `A -> B` has source A and target B, BB is the backbone, LL "
        "the last layer. Each answer is computed by the criterion in the last column. Figures are those of folds with "
        f"seed {seeds[0]}; of the seeds {', '.join(seeds)} those with another answer are named.",
        "",
        "| finding | the paper | here | agrees | criterion |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*head, *map(_row, findings)]) + "\n"


def write(folder: Path, about: Metadata, findings: Sequence[Finding], tables: ErrorTables) -> Path:
    """findings.md and findings.json in the folder, both or neither; the path of the second."""
    content = {**about, "findings": [finding._asdict() for finding in findings], "errors": _errors(tables)}
    with atomic_files(folder, NAMES) as temporary:
        (temporary / NAMES[0]).write_text(markdown(about, findings))
        (temporary / NAMES[1]).write_text(json.dumps(content, indent=1) + "\n")
    return folder / NAMES[1]


def _row(finding: Finding) -> str:
    figures = "; ".join(f"{name} {_number(value)}" for name, value in finding.figures.items())
    return f"| {finding.finding} | {finding.paper} | {figures} | {finding.answer} | {finding.why} |"


def _number(value: float) -> str:
    return f"{value:.3f}"


def _errors(tables: ErrorTables) -> Metadata:
    """Every error, with its interval and the median of its rows where there are some."""
    orders = {model: _matrix(matrix) for model, matrix in tables.orders.items()}
    return {"gfre": _matrix(tables.gfre), "lfre": _matrix(tables.lfre), "orders": orders}


def _matrix(matrix: ErrorMatrix) -> Metadata:
    found: Metadata = {"names": list(matrix.names), "values": matrix.tolist()}
    for key in ("median", "low", "high") if matrix.summaries else ():
        found[key] = [[asdict(cell)[key] for cell in row] for row in matrix.summaries]
    return found
