"""Findings as text and as a page."""

from __future__ import annotations

import os
from dataclasses import dataclass
from html import escape

from backprop.base.atomic import write_atomically
from backprop.tables import scores
from backprop.tables.findings import Findings
from backprop.tables.page import page


@dataclass(frozen=True, slots=True)
class Report:
    """What there is to know about a model; ``print`` shows its text, `save` writes it as a page.

    Parameters
    ----------
    findings
        All of it, as plain records.
    """

    findings: Findings

    def __str__(self) -> str:
        parts = [self.findings.data]
        for each in self.findings.targets:
            base, theirs = each.baseline
            parts.append(f"\n{each.target.name}, {each.n_rows:,} rows")
            for name, value in each.scores.items():
                what, form = scores.NAMES[name]
                beside = f"   ({base}: {theirs[name]:{form}})" if name in theirs else ""
                parts.append(f"  {what:24}{value:{form}}{beside}")
            parts.append(f"  {scores.NAMES[each.importance_of][0]} without the column:")
            parts += [f"    {name:22}{-value:+.4f}" for name, value in list(each.importance.items())[:10]]
        parts += [f"\nnote: {note}" for note in self.findings.notes]
        return "\n".join(parts)

    def html(self) -> str:
        """Return the report as one page that needs nothing else."""
        return page(self.findings)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page to a file, in one piece."""
        write_atomically(path, self.html().encode())

    def _repr_html_(self) -> str:
        return f'<iframe srcdoc="{escape(self.html())}" width="100%" height="700" style="border: 0"></iframe>'
