"""Networks for PyTorch, and from it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from deltajit.io.forms import FORMS, assembled, check_forms
from deltajit.model.architecture import Architecture
from deltajit.model.memory import Array

PASSIVE = {"Identity", "Dropout", "AlphaDropout", "Flatten"}  # do nothing to samples in predict


def to_torch(made: Architecture, theta: Array) -> Any:
    """A torch.nn.Sequential of Linear layers and activations, identity ones left out."""
    check_forms(made, "to_torch")
    import torch

    modules: list[Any] = []
    for W, b, name in zip(*made.unflatten(theta), made.activations, strict=True):
        n_out, n_in = W.shape
        # It draws nothing from PyTorch's generator.
        linear = torch.nn.utils.skip_init(  # type: ignore[no-untyped-call, unused-ignore]
            torch.nn.Linear, n_in, n_out, dtype=getattr(torch, made.dtype.name)
        )
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(np.array(W)))
            linear.bias.copy_(torch.from_numpy(np.array(b)))
        modules.append(linear)
        if name != "identity":
            modules.append(_torch_module(name, made.slope))
    return torch.nn.Sequential(*modules)


def _torch_module(name: str, slope: float) -> Any:
    kind, options = FORMS[name].torch
    given = {key: slope if value == "slope" else value for key, value in options.items()}
    return _torch_class(kind)(**given)


def _torch_class(name: str) -> Any:
    """A class of ours, or else of torch.nn."""
    import torch

    from deltajit.io import torch_modules

    return getattr(torch_modules, name, None) or getattr(torch.nn, name)


def from_torch(
    source: Any, activation: Any, output: str, loss: str, options: dict[str, Any]
) -> tuple[Architecture, Array]:
    """From a Sequential, or from a state_dict and the names of activations: see `Network`."""
    if isinstance(source, Mapping):
        weights, biases = _of_state_dict(source)
        if activation is None and len(weights) > 1:
            raise TypeError("activation must be given with a state_dict, which has none; got None")
        hidden = () if activation is None else activation
    else:
        weights, biases, names, slopes = _of_sequential(source)
        hidden = names[:-1]
        same = activation in (None, hidden, tuple(hidden)) or hidden == [activation] * len(hidden)
        if not same:
            raise ValueError(f"activation must be the Sequential's, {hidden}; got {activation!r}")
        if names[-1] != "identity":
            if output not in ("auto", names[-1]):
                raise ValueError(f"output must be the Sequential's, {names[-1]!r}; got {output!r}")
            output = names[-1]
        if slopes:
            options = {"slope": slopes[0], **options}
            if {*slopes} != {options["slope"]}:
                raise ValueError(
                    f"slope must be one for all layers, got {slopes} and slope={options['slope']}"
                )
    return assembled(weights, biases, hidden, output, loss, options)


def _of_state_dict(source: Mapping[str, Any]) -> tuple[list[Array], list[Array]]:
    """Weights and biases, in order; a missing bias is 0."""
    weights, biases, used = [], [], set()
    for name in _in_order([name for name in source if name.split(".")[-1] == "weight"]):
        W, bias = _numpy(source[name]), name.removesuffix("weight") + "bias"
        weights.append(W)
        biases.append(_numpy(source[bias]) if bias in source else np.zeros(W.shape[:1], W.dtype))
        used |= {name, bias}
    rest = [name for name in source if name not in used]
    if rest or not weights:
        raise ValueError(
            'source must be a state_dict of Linear layers, with names such as "0.weight" and '
            f'"0.bias"; got {rest or "an empty one"}'
        )
    return weights, biases


def _in_order(names: list[str]) -> list[str]:
    """By number, if that is all that tells them apart (files are sorted otherwise); else as given.

    A state_dict of PyTorch's has the order in which the layers were made.
    """
    found = [re.fullmatch(r"(|.*\D)(\d+)\.weight", name) for name in names]
    numbers = {name: int(match[2]) for name, match in zip(names, found, strict=True) if match}
    if len(numbers) == len(names) and len({match[1] for match in found if match}) == 1:
        return sorted(names, key=numbers.__getitem__)
    return names


def _of_sequential(source: Any) -> tuple[list[Array], list[Array], list[str], list[float]]:
    """(weights, biases, name of each layer's activation, slopes of leaky_relu)."""
    weights, biases, names, slopes = [], [], [], []
    for module in _leaves(source):
        kind = type(module).__name__
        if kind == "Linear":
            W = _numpy(module.weight)
            weights.append(W)
            biases.append(np.zeros(len(W), W.dtype) if module.bias is None else _numpy(module.bias))
            names.append("identity")
        elif kind not in PASSIVE:
            if not names or names[-1] != "identity":
                raise ValueError(f"{module!r} must come right behind a Linear layer")
            names[-1] = _name_of(module)
            if names[-1] == "leaky_relu":
                slopes.append(float(module.negative_slope))
    if not weights:
        raise ValueError(f"source must have Linear layers, got {source!r}")
    return weights, biases, names, slopes


def _leaves(source: Any) -> Iterator[Any]:
    """Modules of a Sequential and of those in it, in order."""
    import torch

    if not isinstance(source, torch.nn.Sequential):
        raise TypeError(
            f"source must be a torch.nn.Sequential or a state_dict, got {type(source).__name__}; "
            "for another Module pass its state_dict() and say activation=..."
        )
    for module in source:
        if isinstance(module, torch.nn.Sequential):
            yield from _leaves(module)
        else:
            yield module


def _name_of(module: Any) -> str:
    """Our name of a module's activation, options included."""
    for name, (kind, options) in ((name, form.torch) for name, form in FORMS.items()):
        if type(module) is not _torch_class(kind):
            continue
        wrong = [
            f"{key}={getattr(module, key)}"
            for key, value in options.items()
            if not _is_alike(key, getattr(module, key), value)
        ]
        if wrong:
            raise ValueError(f"{module!r} has {', '.join(wrong)}, which {name} cannot be given")
        return name
    raise ValueError(f"{module!r} must be Linear or one of our activations, {', '.join(FORMS)}")


def _is_alike(option: str, given: Any, ours: Any) -> bool:
    """Whether a module's option means what ours does."""
    if option == "dim":
        return given in (1, -1)  # of (B, n_out) both are the last
    if option == "threshold":
        return float(given) >= 20  # PyTorch's own: 2e-9 too little, at most
    return bool(ours == "slope" or given == ours)


def _numpy(tensor: Any) -> Array:
    """A tensor, or an array, as float32, or float64 where it is that."""
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu().double() if "float64" in str(tensor.dtype) else (
            tensor.detach().cpu().float()
        )  # fmt: skip
        return np.asarray(tensor.numpy())
    found = np.asarray(tensor)
    return found if found.dtype == np.float64 else found.astype(np.float32)
