"""The command that writes a model as what other programs run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Literal

from backprop.cli.commands import check_output
from backprop.cli.output import print_line
from backprop.io import load_with_extra
from backprop.network import Network
from backprop.tables.loading import load_table_model
from backprop.tables.model import TableModel


def export(args: argparse.Namespace) -> None:
    """Write a model, with its preprocessing, or a network."""
    if args.c is None and args.onnx is None:
        raise ValueError("export: needs --c HEADER, --onnx FILE or both")
    model = _loaded(args.model)
    if args.c is not None:
        check_output("--c", args.c, args.model)
        weights: Literal["exact", "int8"] = "int8" if args.int8 else "exact"
        model.to_c(args.c, name=args.name, weights=weights, training=args.training)
        print_line("C", str(args.c))
    if args.onnx is not None:
        check_output("--onnx", args.onnx, args.model)
        model.to_onnx(args.onnx)
        print_line("ONNX", str(args.onnx))


def _loaded(path: Path) -> TableModel | Network:
    """Return the model of a table, or the network if there is no preprocessing beside it."""
    found, extra = load_with_extra(path)
    return found if isinstance(found, Network) and "preprocessing" not in extra else load_table_model(path)
