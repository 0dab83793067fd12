"""Formulas written as Python become MathML, which browsers draw without fonts or scripts of ours.

The docstrings and the `formula` of activations and losses stay what they are: text that can be read and run.
"""

import ast
import re
from collections.abc import Callable, Iterable
from html import escape

GREEK = {
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "delta": "δ",
    "epsilon": "ε",
    "mu": "μ",
    "pi": "π",
    "rho": "ρ",
    "dots": "⋯",
}
BINARY = {ast.Add: ("+", 1), ast.Sub: ("−", 1), ast.Mult: ("⋅", 2), ast.MatMult: ("", 2)}
COMPARED = {ast.Gt: ">", ast.Lt: "<", ast.GtE: "≥", ast.LtE: "≤", ast.Eq: "="}
ATOM, POWER, SIGN, LOOSE = 5, 4, 3, 0

NOTE = re.compile(r"^(?P<code>.*?)(?:\s{2,}\((?P<note>.*)\))?$")


def formula(text: str) -> str:
    """Typeset one formula; raises SyntaxError where it is not Python after all."""
    parts = [_statement(part) for part in re.split(r", (?=\w+ = )", text)]
    return f'<math display="block">{_op(",", "0.2em").join(parts)}</math>'


def block(lines: Iterable[str]) -> str:
    """Typeset the lines of an algorithm; a line that is no formula stays text."""
    rows = []
    for line in lines:
        match = NOTE.match(line.rstrip())
        code, note = match["code"], match["note"]
        indent = (len(code) - len(code.lstrip())) // 4
        try:
            shown = f'<math displaystyle="true">{_statement(code.strip())}</math>'
        except SyntaxError:
            shown = escape(code.strip())
        rows.append(
            f'<tr><td style="padding-left: {1.5 * indent}em">{shown}</td>'
            f'<td class="note">{escape(note) if note else ""}</td></tr>'
        )
    return f'<table class="algorithm">{"".join(rows)}</table>'


def _statement(text: str) -> str:
    text = re.sub(r"\s+", " ", text.strip())
    text = re.sub(r"(\w+)_\(([^()]*)\)", r"sub(\1, \2)", text)  # mu_(t+1)
    text = text.replace(" ... ", " * dots * ")
    text = re.sub(r"\bsum_(\w) (.*)$", r"SUM(\1, \2)", text)  # a sum reaches to the end
    (node,) = ast.parse(text).body
    if isinstance(node, ast.Assign):
        return _row(_math(node.targets[0]), _op("="), _math(node.value))
    if isinstance(node, ast.AugAssign):
        target = _math(node.target)
        sign, level = BINARY[type(node.op)]
        return _row(target, _op("←"), target, _op(sign), _math(node.value, level + 1))
    if isinstance(node, ast.Expr):
        return _math(node.value)
    raise SyntaxError(text)


def _math(node: ast.expr, level: int = LOOSE) -> str:
    """Typeset an expression, in brackets where it binds less than what it stands in."""
    if type(node) not in _RULES:
        raise SyntaxError(ast.unparse(node))
    text, own = _RULES[type(node)](node)
    return text if own >= level else _bracketed(text)


def _name(node: ast.Name) -> tuple[str, int]:
    head, _, tail = node.id.rpartition("_")
    if head and "_" not in head and (len(tail) <= 2 or tail == "max"):
        return f"<msub>{_word(head)}{_word(tail)}</msub>", ATOM
    return _word(node.id), ATOM


def _word(text: str) -> str:
    if text.isdigit():
        return f"<mn>{text}</mn>"
    return f"<mi>{GREEK.get(text, escape(text))}</mi>"


def _constant(node: ast.Constant) -> tuple[str, int]:
    return f"<mn>{node.value}</mn>", ATOM


def _attribute(node: ast.Attribute) -> tuple[str, int]:
    return f"<msup>{_math(node.value, ATOM)}<mi>{node.attr}</mi></msup>", POWER


def _unary(node: ast.UnaryOp) -> tuple[str, int]:
    return _row(_op("−", form="prefix"), _math(node.operand, 2)), 1


def _binary(node: ast.BinOp) -> tuple[str, int]:
    if isinstance(node.op, ast.Div):
        return _fraction(node.left, node.right)
    if isinstance(node.op, ast.Pow):
        return f"<msup>{_math(node.left, ATOM)}{_row(_math(node.right))}</msup>", POWER
    sign, level = BINARY[type(node.op)]
    return _row(_math(node.left, level), _op(sign) if sign else "", _math(node.right, level + 1)), level


def _fraction(above: ast.expr, below: ast.expr) -> tuple[str, int]:
    """Write one under the other, but for a fraction that is multiplied above: it stays a factor in front."""
    if isinstance(above, ast.BinOp) and isinstance(above.op, ast.Mult) and _has_fraction(above.left):
        return _row(_math(above.left, 2), _op("⋅"), _fraction(above.right, below)[0]), 2
    size = ' displaystyle="true" scriptlevel="0"' if _has_fraction(above) or _has_fraction(below) else ""
    parts = (f"<mrow{size}>{_math(part)}</mrow>" for part in (above, below))
    return f"<mfrac>{''.join(parts)}</mfrac>", SIGN


def _has_fraction(node: ast.expr) -> bool:
    return any(isinstance(part, ast.Div) for part in ast.walk(node))


def _compare(node: ast.Compare) -> tuple[str, int]:
    return _row(_math(node.left), _op(COMPARED[type(node.ops[0])]), _math(node.comparators[0])), LOOSE


def _cases(node: ast.IfExp) -> tuple[str, int]:
    """Two rows behind a line: a brace that grows with them needs a font for mathematics."""
    condition = _row("<mtext>if&nbsp;</mtext>", _math(node.test))
    rows = ((_math(node.body), condition), (_math(node.orelse), "<mtext>else</mtext>"))
    table = "".join(f"<mtr><mtd>{value}</mtd><mtd>{when}</mtd></mtr>" for value, when in rows)
    return f'<mtable class="cases">{table}</mtable>', LOOSE


def _tuple(node: ast.Tuple) -> tuple[str, int]:
    return _op(",").join(_math(part) for part in node.elts), LOOSE


def _call(node: ast.Call) -> tuple[str, int]:
    name = ast.unparse(node.func)
    parts = [_math(part) for part in node.args]
    if name == "exp":
        return f"<msup><mi>e</mi>{_row(*parts)}</msup>", POWER
    if name == "sqrt":
        return f"<msqrt>{parts[0]}</msqrt>", ATOM
    if name == "abs":
        return _row(_op("|", form="prefix"), parts[0], _op("|", form="postfix")), ATOM
    if name == "norm":
        return _row(_op("‖", form="prefix"), parts[0], _op("‖", form="postfix")), ATOM
    if name == "sub":
        return f"<msub>{parts[0]}{_row(parts[1])}</msub>", ATOM
    if name == "SUM":
        return _row(f"<munder>{_op('∑')}{parts[0]}</munder>", _math(node.args[1], 2)), 2
    shown = {"log": "ln", "SIGN": "sign"}.get(name, name)
    return _row(f"<mi>{escape(shown)}</mi>", _bracketed(_op(",").join(parts))), ATOM


_RULES: dict[type, Callable] = {
    ast.Name: _name,
    ast.Constant: _constant,
    ast.Attribute: _attribute,
    ast.UnaryOp: _unary,
    ast.BinOp: _binary,
    ast.Compare: _compare,
    ast.IfExp: _cases,
    ast.Tuple: _tuple,
    ast.Call: _call,
}


def _row(*parts: str) -> str:
    return f"<mrow>{''.join(parts)}</mrow>"


def _bracketed(text: str) -> str:
    return _row(_op("(", form="prefix"), text, _op(")", form="postfix"))


def _op(sign: str, rspace: str = "", form: str = "") -> str:
    more = f' rspace="{rspace}"' if rspace else ""
    if form:
        more += f' form="{form}"'
    return f"<mo{more}>{escape(sign)}</mo>"
