"""Docstrings on the site: formulas are typeset, and names in single backquotes are links."""

import re
import sys
from pathlib import Path
from typing import Any

import griffe

sys.path.insert(0, str(Path(__file__).parent))

import mathml
import reference

LITERAL = re.compile(r"^(?P<lead>.*?):?:\n\n(?P<body>(?:    .*\n?|\n)+)", re.MULTILINE)
QUOTED = re.compile(r"(?<![`\[])`([A-Za-z_][\w.]*)`(?![`\]])")


class Docstrings(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def __init__(self) -> None:
        self.links = reference.links()

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of a class, a function or a module."""
        if obj.docstring is not None and not obj.is_alias:
            text = LITERAL.sub(_typeset, obj.docstring.value)
            if obj.is_class and "formula" in obj.members:
                text = _with_formula(text, reference.defined(obj.path))
            obj.docstring.value = QUOTED.sub(self._link, text)

    def _link(self, match: re.Match[str]) -> str:
        path = self.links.get(match[1])
        return f"[`{match[1]}`][{path}]" if path else match[0]


def _typeset(match: re.Match[str]) -> str:
    """A literal block is an algorithm where its lines are assignments, else it stays code."""
    lines = [line[4:] for line in match["body"].splitlines() if line.strip()]
    lead = match["lead"].strip() + (":" if match["lead"].strip() else "")
    if sum(bool(re.search(r"[^=]=[^=]", line)) for line in lines) * 2 < len(lines):
        return f"{lead}\n\n```text\n" + "\n".join(lines) + "\n```\n\n"
    return f"{lead}\n\n{mathml.block(lines)}\n\n"


def _with_formula(text: str, cls: type) -> str:
    if not isinstance(formula := getattr(cls, "formula", None), str):  # a class that only says that there is one
        return text
    first, gap, rest = text.partition("\n\n")
    return f'{first}\n\n<div class="formula">{mathml.formula(formula)}</div>{gap}{rest}'
