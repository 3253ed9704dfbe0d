"""What users of other libraries call things: an error names what they are called here."""

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# What is called so elsewhere, in lower case, and what it may be here: the first that there is.
# They are not accepted, since some differ by a factor: squared_error is 1/2 of a sum over outputs.
ELSEWHERE = {
    # activations
    "swish": ("silu",), "linear": ("identity",), "none": ("identity",), "logistic": ("sigmoid",),
    "heaviside": ("step",), "sine": ("sin",), "leakyrelu": ("leaky_relu",), "hard_swish":
    ("hardswish",), "hardtanh": ("hard_tanh",), "rectifier": ("relu",), "expit": ("sigmoid",),
    # losses
    "mse": ("squared_error",), "mean_squared_error": ("squared_error",),
    "l2": ("squared_error",), "mae": ("absolute_error",), "l1": ("absolute_error",),
    "mean_absolute_error": ("absolute_error",), "bce": ("binary_cross_entropy",),
    "log_loss": ("cross_entropy",), "binary_crossentropy": ("binary_cross_entropy",),
    "nll": ("cross_entropy", "gaussian_nll"), "crossentropy": ("cross_entropy",),
    "ce": ("cross_entropy",), "categorical_crossentropy": ("cross_entropy",),
    "sparse_categorical_crossentropy": ("cross_entropy",), "logcosh": ("log_cosh",),
    "smooth_l1": ("huber",), "pinball": ("quantile",), "focal_loss": ("focal",),
    "sigmoid_focal_loss": ("binary_focal",), "binary_focal_crossentropy": ("binary_focal",),
    "categorical_focal_crossentropy": ("focal",),
    # initializers
    "xavier": ("glorot",), "kaiming": ("he",),
    # arguments
    "seed": ("rng",), "random_state": ("rng",), "verbose": ("progress",), "n_jobs": ("threads",),
    "learning_rate": ("lr", "optimizer"), "lr": ("optimizer",), "eta": ("lr", "optimizer"),
    "learning_rate_init": ("lr", "optimizer"), "n_epochs": ("epochs",), "num_epochs": ("epochs",),
    "max_iter": ("epochs",), "hidden_layer_sizes": ("sizes",), "layers": ("sizes",),
    "alpha": ("l2",), "weight_decay": ("l2",), "val_data": ("validation_data",),
    "eval_set": ("validation_data",), "sample_weights": ("sample_weight",),
    "loss_fn": ("loss",), "criterion": ("loss",), "solver": ("optimizer",),
    "early_stopping": ("callbacks",), "patience": ("callbacks",), "final_activation": ("output",),
    "output_activation": ("output",), "accumulate_grad_batches": ("batch_size",),
    "gradient_accumulation_steps": ("batch_size",),
}  # fmt: skip
VALUES = {
    "optimizer": "optimizer=dj.Adam(lr=1e-3)",
    "callbacks": "callbacks=[dj.EarlyStopping(patience=10)]",
}


def nearest(name: str, options: Iterable[str]) -> str | None:
    """Return the option that a user meant by an unknown name; None if none is like it."""
    by_name = {option.lower(): option for option in options}
    plain = name.lower().replace("-", "_").replace(" ", "_")
    for meant in (plain, *ELSEWHERE.get(plain, ())):
        if meant in by_name:
            return by_name[meant]
    near = difflib.get_close_matches(plain, by_name, n=1, cutoff=0.5)
    return by_name[near[0]] if near else None


def hinted(function: Callable[P, T]) -> Callable[P, T]:
    """Make the error for an unknown keyword argument say what it is called here."""
    parameters = list(inspect.signature(function).parameters.values())
    names = [parameter.name for parameter in parameters]
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)

    @functools.wraps(function)
    def checked(*given: P.args, **named: P.kwargs) -> T:
        for name in named.keys() - names if not takes_any else ():
            meant = nearest(name, names)
            hint = f"; did you mean {VALUES.get(meant, meant)}?" if meant else ""
            raise TypeError(f"{function.__qualname__} has no argument {name!r}{hint}")
        return function(*given, **named)

    return checked
