"""A report as a page: one file of HTML with its style and its charts in it, which asks nothing of any network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from backprop.base.version import version
from backprop.tables import charts, scores
from backprop.tables.findings import MAX_CLASSES, Findings, TargetFindings
from backprop.tables.targets import Labels

MAX_BARS, MAX_ROWS = 20, 200

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; background: #fff; margin: 0 auto; max-width: 1000px;
       padding: 24px 20px 60px; }
h1 { font-size: 26px; margin: 0 0 2px; } h2 { font-size: 20px; margin: 40px 0 8px; padding-top: 12px;
     border-top: 1px solid #d5dbe3; } h3 { font-size: 15px; margin: 18px 0 4px; }
p.what { color: #5b6675; margin: 0 0 12px; }
.cards { display: flex; flex-wrap: wrap; gap: 10px; margin: 12px 0; }
.card { border: 1px solid #d5dbe3; border-radius: 6px; padding: 8px 14px; min-width: 118px; }
.card b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; }
.card span { color: #5b6675; font-size: 13px; }
.charts { display: flex; flex-wrap: wrap; gap: 8px 32px; } figure { margin: 8px 0; max-width: 100%; }
figcaption { font-weight: 600; } figcaption small { font-weight: 400; color: #5b6675; }
svg { max-width: 100%; height: auto; font-family: inherit; } .grid { stroke: #e6eaf0; } .tick { font-size: 12px;
      fill: #3a4554; } .axis { font-size: 12px; fill: #5b6675; } .diagonal { stroke: #9aa5b4; stroke-dasharray: 4 4; }
table { border-collapse: collapse; margin: 8px 0; } th, td { text-align: left; padding: 4px 12px 4px 0;
        border-bottom: 1px solid #e6eaf0; vertical-align: top; } th { color: #5b6675; font-weight: 600; }
table.matrix td { text-align: right; padding: 6px 12px; border: 1px solid #e6eaf0; font-variant-numeric: tabular-nums; }
table.matrix th { padding: 4px 10px; border: 0; }
.note { background: #fdf3e3; border-left: 4px solid #d9792b; padding: 8px 12px; margin: 8px 0; }
.wide { overflow-x: auto; }
"""


def page(findings: Findings) -> str:
    """Return findings as a page."""
    names = ", ".join(each.target.name for each in findings.targets)
    body = [
        f"<h1>{escape(names)}</h1>",
        f'<p class="what">A network of backprop {escape(version())} on {escape(findings.data)}</p>',
        *(f'<div class="note">{escape(note)}</div>' for note in findings.notes),
        *(part for each in findings.targets for part in _target(each)),
        "<h2>Columns</h2>",
        f'<p class="what">{len(findings.columns):,} go into the network, {len(findings.left_out):,} are left out.</p>',
        _table(("column", "taken as", "inputs of the network"), findings.columns),
    ]
    if findings.left_out:
        body += ["<h3>Left out</h3>", _table(("column", "because"), findings.left_out.items())]
    rows = [(name, f"{value:.4g}" if isinstance(value, float) else value) for name, value in findings.training.items()]
    body += ["<h2>Training</h2>", _table(("", ""), rows)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src \'unsafe-inline\'">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(names)}: report</title><style>{_STYLE}</style></head><body>\n" + "\n".join(body)
        + "\n</body></html>\n"
    )  # fmt: skip


def _target(each: TargetFindings) -> list[str]:
    """Return the part of a target."""
    target = each.target
    how, theirs = each.baseline
    about = ""
    if isinstance(target, Labels) and target.n_outputs == 2:
        about = f" Precision, recall and what follows are those of {target.labels[target.positive]}."
    found = [
        f"<h2>{escape(target.name)}</h2>",
        f'<p class="what">{each.n_rows:,} rows; beside each score that of a guess, {escape(how)}.{escape(about)}</p>',
        '<div class="cards">',
        *(_card(name, value, theirs.get(name)) for name, value in each.scores.items()),
        "</div>",
    ]
    if each.confusion is not None and len(each.confusion) <= MAX_CLASSES:
        assert isinstance(target, Labels)
        found += ["<h3>Confusion matrix</h3>", _matrix(target.labels, each.confusion)]
    figures = []
    if each.actual:
        errors = [p - a for a, p in zip(each.actual, each.predicted, strict=True)]
        figures += [
            _figure("Predicted beside actual", charts.scatter(each.actual, each.predicted, "actual", "predicted",
                                                              diagonal=True)),
            _figure("Residuals", charts.scatter(each.predicted, errors, "predicted", "predicted - actual"),
                    "without a pattern where the model has learned all there is"),
        ]  # fmt: skip
    for title, curves, x, y, note, diagonal in (
        ("ROC curve", each.roc, "false positive rate", "true positive rate", "the diagonal is a guess", True),
        ("Precision and recall", each.precision_recall, "recall", "precision", "", False),
        ("Calibration", each.calibration, "predicted probability", "share that is true", "best on the diagonal", True),
    ):  # fmt: skip
        if curves:
            figures.append(
                _figure(title, charts.lines(curves, x, y, diagonal=diagonal, dots=title == "Calibration"), note)
            )
    if each.losses.get("loss"):
        series = {name: (range(1, len(values) + 1), values) for name, values in each.losses.items() if values}
        named = {"loss": "training", "val_loss": "validation"}
        figures.append(_figure("Loss", charts.lines({named.get(k, k): v for k, v in series.items()}, "epoch", "loss")))
    if each.importance:
        shown = dict(list(each.importance.items())[:MAX_BARS])
        what = f"fall of {scores.NAMES[each.importance_of][0]} when the column is shuffled"
        figures.append(_figure("What the model needs", charts.bars(shown, what)))
    return [*found, '<div class="charts">', *figures, "</div>"]


def _card(name: str, value: float, theirs: float | None) -> str:
    what, form = scores.NAMES[name]
    beside = "" if theirs is None else f" (guess {theirs:{form}})"
    return f'<div class="card"><b>{value:{form}}</b><span>{escape(what)}{beside}</span></div>'


def _figure(title: str, chart: str, note: str = "") -> str:
    small = f" <small>{escape(note)}</small>" if note else ""
    return f"<figure><figcaption>{escape(title)}{small}</figcaption>{chart}</figure>"


def _matrix(labels: Sequence[str], counts: Any) -> str:
    """Return a confusion matrix, darker where a larger share of the class is."""
    head = "".join(f"<th>{escape(label)}</th>" for label in labels)
    rows = []
    for label, row in zip(labels, counts.tolist(), strict=True):
        total = sum(row) or 1
        cells = "".join(_cell(n, n / total) for n in row)
        rows.append(f"<tr><th>{escape(label)}</th>{cells}</tr>")
    return (f'<div class="wide"><table class="matrix"><tr><th>actual \\ predicted</th>{head}</tr>'
            f'{"".join(rows)}</table></div>')  # fmt: skip


def _cell(n: int, share: float) -> str:
    colour = "; color: #fff" if share > 0.6 else ""
    return f'<td style="background: rgba(37, 99, 176, {0.75 * share:.2f}){colour}">{n:,}</td>'


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    shown = list(rows)
    more = f"<p>... {len(shown):,} in all</p>" if len(shown) > MAX_ROWS else ""
    names = f"<tr>{''.join(f'<th>{escape(name)}</th>' for name in head)}</tr>" if any(head) else ""
    lines = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in shown[:MAX_ROWS])
    return f'<div class="wide"><table>{names}{lines}</table></div>{more}'
