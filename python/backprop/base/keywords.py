"""Names of parameters: what somebody means who writes another library's name, or nearly the right one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import wraps
from inspect import signature
from types import FunctionType
from typing import Any, ParamSpec, TypeVar, cast

from backprop.base.text import listed, shown

P = ParamSpec("P")
R = TypeVar("R")

# Names of other libraries, and what they mean, the likeliest first: a parameter, an argument of one, or what to write
# somewhere else.
_MEANINGS: tuple[tuple[str, ...], ...] = (
    ("lr learning_rate learning_rate_init eta", "learning_rate_init", "learning_rate",
     "optimizer=bp.Adam(learning_rate=...)"),
    ("momentum", "optimizer=bp.SGD(momentum=...)"),
    ("nesterov", "nesterovs_momentum", "optimizer=bp.SGD(momentum=..., nesterov=True)"),
    ("weight_decay", "optimizer=bp.AdamW(weight_decay=...)", "solver=bp.AdamW(weight_decay=...)"),
    ("decay", "weight_decay"),
    ("betas", "beta_1=..., beta_2=..."),
    ("eps", "epsilon"),
    ("optimizer opt optim", "optimizer", "method", "solver"),
    ("solver method algorithm", "method", "solver", "optimizer"),
    ("scheduler lr_scheduler lr_schedule learning_rate_schedule schedule", "schedule",
     "learning_rate_init=..., learning_rate=bp.schedules.Cosine(...)"),
    ("epochs n_epochs num_epochs nb_epoch max_epochs", "epochs", "max_iter", "steps"),
    ("max_iter maxiter max_iterations iterations n_iter num_iter n_steps", "max_iter", "epochs", "steps"),
    ("max_fun maxfun max_nfev max_evaluations", "max_fun", "options={'max_evaluations': ...}"),
    ("bs minibatch_size", "batch_size"),
    ("tol gtol tolerance min_delta", "tolerance", "tol"),
    ("ftol", "options={'loss_tolerance': ...}", "tolerance"),
    ("damping mu lam", "damping", "options={'damping': ...}"),
    ("X_val y_val x_val val_data valid_data validation_data validation validation_set eval_set",
     "validation_data=(X, y)", "X_val=..., y_val=..."),
    ("validation_fraction validation_split val_split validation_size test_size", "validation_split",
     "validation_fraction=..., early_stopping=True"),
    ("callback", "callbacks=[...]"),
    ("callbacks", "callback"),
    ("early_stopping", "callbacks=[bp.callbacks.EarlyStopping(...)]"),
    ("n_iter_no_change patience", "patience", "n_iter_no_change"),
    ("verbose disp progress", "progress", "verbose"),
    ("logger", "log"),
    ("criterion loss_fn loss_function objective", "loss"),
    ("weight weights sample_weights", "sample_weight"),
    ("class_weights", "class_weight"),
    ("n_jobs num_threads threads workers num_workers", "n_threads"),
    ("clipnorm max_grad_norm grad_clip gradient_clip_val", "clip_norm"),
    ("clipvalue", "clip_value"),
    ("dropout", "bp.Dense(..., dropout=...)"),
    ("alpha l2 regularization kernel_regularizer", "l2", "alpha", "bp.Dense(..., l2=...)"),
    ("l1", "bp.Dense(..., l1=...)"),
    ("init kernel_initializer", "weight_init"),
    ("bias_initializer", "bias_init"),
    ("kernel_constraint", "max_norm"),
    ("use_bias", "bias"),
    ("negative_slope", "alpha"),
    ("seed random_state random_seed", "seed", "random_state", "bp.Network(..., seed=...)"),
    ("activation activations hidden hidden_activation", "hidden", "activation", "bp.Dense(..., activation=...)"),
    ("output_activation out_activation", "output", "bp.Dense(..., activation=...)"),
    ("hidden_layer_sizes hidden_sizes hidden_layers hidden_units sizes layers units", "sizes", "hidden_layer_sizes",
     "layers=[bp.Dense(...), ...]"),
    ("input_dim input_size input_shape in_features", "n_inputs"),
    ("out_features n_units", "units"),
    ("n_members", "size", "n_estimators"),
    ("restore_best_weights", "restore_best"),
    ("threshold", "min_delta"),
    ("min_lr start_lr lr_min", "min_rate", "lowest"),
    ("max_lr end_lr lr_max", "highest"),
    ("filepath filename", "path"),
)  # fmt: skip
_PLACES = frozenset({"X", "layers", "sizes"})  # where somebody may look for what stands in another place
_MEANT = {word: meant for words, *meant in _MEANINGS for word in words.split()}

# The same for the names of losses, activations, metrics and methods.
_VALUES = (
    ("mse l2 mean_squared_error", "squared_error", "mean_squared_error"),
    ("mae l1 mean_absolute_error", "absolute_error", "mean_absolute_error"),
    ("rmse", "root_mean_squared_error"),
    ("smooth_l1", "huber"),
    ("logcosh", "log_cosh"),
    ("pinball", "quantile"),
    ("bce binary_crossentropy", "binary_cross_entropy"),
    ("log_loss crossentropy categorical_crossentropy sparse_categorical_crossentropy nll", "cross_entropy"),
    ("kld kl_div kl_divergence", "kullback_leibler"),
    ("linear none", "identity"),
    ("logistic", "sigmoid"),
    ("swish", "silu"),
    ("levenberg_marquardt trainlm", "lm"),
    ("bayesian_regularization trainbr br", "bayesian"),
    ("acc", "accuracy"),
    ("auc", "roc_auc"),
)
_VALUE_MEANT = {word: meant for words, *meant in _VALUES for word in words.split()}


def explained(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function refuse names that it does not have, and values without names, with what to write instead.

    Examples
    --------
    >>> from backprop.base.keywords import explained
    >>> @explained
    ... def fit(X, y, *, epochs=1):
    ...     return epochs
    >>> fit([], [], n_epochs=2)
    Traceback (most recent call last):
    TypeError: fit: needs names that it has, got n_epochs: write epochs=...
    """
    names, n_positional, needed = _parameters(cast(FunctionType, function))
    known, n_needed = frozenset(names), sum(name in needed for name in names[:n_positional])
    by_name = needed.difference(names[:n_positional])

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not (n_needed <= len(args) <= n_positional and known.issuperset(kwargs) and by_name.issubset(kwargs)):
            skipped = names[:1] == ("self",)
            cls = type(args[0]) if skipped and args else type(None)
            title, maker = (cls.__name__, type(None)) if function.__name__ == "__init__" else (function.__name__, cls)
            wrong = _refusal(names[skipped:], n_positional - skipped, needed, args[skipped:], kwargs, maker)
            if wrong is not None:
                raise TypeError(f"{title}: {wrong}")
        return function(*args, **kwargs)

    return call


def explain(*classes: type) -> None:
    """Let the making of objects of these classes refuse names in the same way; what does so already stays as it is.

    A module may come here twice with the same classes: Ctrl-C can end its import behind this call.
    """
    for cls in classes:
        make = vars(cls).get("__init__")
        if make is not None and not hasattr(make, "__wrapped__"):
            cls.__init__ = explained(make)  # type: ignore[misc]


def _parameters(function: FunctionType) -> tuple[tuple[str, ...], int, frozenset[str]]:
    """Return the names of the parameters, how many need no name, and those without a default."""
    given = getattr(function, "__signature__", None)
    if given is None:
        code, n_positional = function.__code__, function.__code__.co_argcount
        names = code.co_varnames[: n_positional + code.co_kwonlyargcount]
        first_default = n_positional - len(function.__defaults__ or ())
        by_name = frozenset(names[n_positional:]).difference(function.__kwdefaults__ or ())
        return names, n_positional, by_name.union(names[:first_default])
    n_positional = sum(each.kind is each.POSITIONAL_OR_KEYWORD for each in given.parameters.values())
    needed = frozenset(name for name, each in given.parameters.items() if each.default is each.empty)
    return tuple(given.parameters), n_positional, needed


def meant(value: str, options: Collection[str]) -> str:
    """Return the end of a message that refuses a name: the option that was meant, if that is clear.

    Examples
    --------
    >>> from backprop.base.keywords import meant
    >>> meant("Tanh", ["relu", "tanh"]), meant("mse", ["squared_error"]), meant("zzz", ["relu"])
    ("; write 'tanh'", "; write 'squared_error'", '')
    """
    from difflib import get_close_matches  # for mistakes only

    plain = value.lower().replace("-", "_").replace(" ", "_")
    found = [option for option in options if option.lower() == plain]
    found += [option for option in _VALUE_MEANT.get(plain, ()) if option in options]
    found += get_close_matches(plain, options, 1, 0.8)
    return f"; write {found[0]!r}" if found else ""


def _refusal(
    names: Sequence[str],
    n_positional: int,
    needed: Collection[str],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    maker: type,
) -> str | None:
    """Return what is wrong with a call of what has these names; None where nothing is.

    `maker` is the class of the object that has the method.
    """
    for name in kwargs:
        if name not in names:
            hint = next(_hints(name, names, maker), None)
            return f"needs names that it has, got {name}: {f'write {hint}' if hint else f'it takes {listed(names)}'}"
    if len(args) > n_positional:
        first, rest = names[:n_positional], names[n_positional:]
        after = f" after {listed(first)}" if first else ""
        which = f": {listed(rest, 8)}" if rest else ", and has none"
        return f"needs a name for each value{after}{which}; got {shown(args[n_positional])} without one"
    missing = [name for name in names[len(args) :] if name in needed and name not in kwargs]
    wanted = (name for name in names if name in needed)
    return f"needs {listed(wanted)}, got no {listed(missing)}" if missing else None


def _hints(name: str, names: Sequence[str], maker: type) -> Iterator[str]:
    """Yield what can be written in place of a name, the likeliest first."""
    from difflib import get_close_matches  # for mistakes only

    yield from _meanings(name, names)
    if hasattr(maker, "get_params"):  # an estimator, whose settings are those of its constructor
        made_with = [each for each in signature(maker).parameters if each not in names]
        near = [f"{each}=..." for each in get_close_matches(name, made_with, 1)]
        yield from (f"{maker.__name__}({hint})" for hint in [*_meanings(name, made_with), *near])
    elif not _PLACES.isdisjoint(names):
        yield from (meaning for meaning in _MEANT.get(name, ()) if meaning.startswith("bp."))
    yield from (f"{near}=..." for near in get_close_matches(name, names, 1))


def _meanings(name: str, names: Collection[str]) -> Iterator[str]:
    """Yield what another library's name is among these."""
    for meaning in _MEANT.get(name, ()):
        if meaning in names:
            yield f"{meaning}=..."
        elif meaning.partition("=")[0] in names:
            yield meaning
