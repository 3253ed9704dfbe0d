"""Networks to and from PyTorch."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from deltajit.io.forms import FORMS, assembled, check_forms
from deltajit.model.architecture import Architecture
from deltajit.model.memory import Array

if TYPE_CHECKING:
    import torch

PASSIVE = {"Identity", "Dropout", "AlphaDropout", "Flatten"}  # change nothing in predict


def to_torch(architecture: Architecture, theta: Array) -> torch.nn.Sequential:
    """Return a Sequential of Linear layers and activations: see `Network.to_torch`."""
    check_forms(architecture, "to_torch")
    import torch

    modules: list[torch.nn.Module] = []
    for W, b, name in zip(*architecture.unflatten(theta), architecture.activations, strict=True):
        n_out, n_in = W.shape
        # No initial weights, which would draw from PyTorch's generator.
        linear = torch.nn.utils.skip_init(  # type: ignore[no-untyped-call, unused-ignore]
            torch.nn.Linear, n_in, n_out, dtype=getattr(torch, architecture.dtype.name)
        )
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(np.array(W)))
            linear.bias.copy_(torch.from_numpy(np.array(b)))
        modules.append(linear)
        if name != "identity":
            kind, options = FORMS[name].torch
            given = {key: architecture.slope if x == "slope" else x for key, x in options.items()}
            modules.append(_torch_class(kind)(**given))
    return torch.nn.Sequential(*modules)


def _torch_class(name: str) -> Any:
    """Return the class of this name in `torch_modules`, or else in torch.nn."""
    import torch

    from deltajit.io import torch_modules

    return getattr(torch_modules, name, None) or getattr(torch.nn, name)


def from_torch(
    source: object, activation: object, output: str, loss: str, options: Mapping[str, object]
) -> tuple[Architecture, Array]:
    """Return an architecture and a copied theta of a PyTorch network: see `Network.from_torch`."""
    if isinstance(source, Mapping):
        weights, biases = _of_state_dict(source)
        if activation is None and len(weights) > 1:
            raise TypeError("activation must be given with a state_dict, which has none; got None")
        hidden: object = () if activation is None else activation
    else:
        weights, biases, (*inner, last), slopes = _of_sequential(source)
        hidden = inner
        if activation not in (None, inner, tuple(inner)) and inner != [activation] * len(inner):
            raise ValueError(f"activation must be the Sequential's, {inner}; got {activation!r}")
        if last != "identity":
            if output not in ("auto", last):
                raise ValueError(f"output must be the Sequential's, {last!r}; got {output!r}")
            output = last
        if slopes:
            options = {"slope": slopes[0], **options}
            if {*slopes} != {options["slope"]}:
                raise ValueError(
                    f"slope must be one for all layers, got {slopes} and slope={options['slope']}"
                )
    return assembled(weights, biases, hidden, output, loss, options)


def _of_state_dict(source: Mapping[str, object]) -> tuple[list[Array], list[Array]]:
    """Return weights and biases in order; a missing bias is 0."""
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
    """Sort names by number if they differ in nothing else (some files sort them as text).

    Otherwise keep the given order: PyTorch's state_dict has that in which the layers were made.
    """
    matches = [re.fullmatch(r"(|.*\D)(\d+)\.weight", name) for name in names]
    numbers = {name: int(match[2]) for name, match in zip(names, matches, strict=True) if match}
    if len(numbers) == len(names) and len({match[1] for match in matches if match}) == 1:
        return sorted(names, key=numbers.__getitem__)
    return names


def _of_sequential(source: object) -> tuple[list[Array], list[Array], list[str], list[float]]:
    """Return (weights, biases, activation of each layer, slopes of leaky_relu)."""
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


def _leaves(source: object) -> Iterator[Any]:
    """Yield the modules of a Sequential, and of those nested in it, in order."""
    torch = sys.modules.get("torch")  # which whoever has a Sequential has imported
    if torch is None or not isinstance(source, torch.nn.Sequential):
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
    """Return our name of a module's activation, after checking its options."""
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


def _is_alike(option: str, given: float | str, ours: float | str) -> bool:
    """Return whether a module's option means the same as ours."""
    if option == "dim":
        return given in (1, -1)  # both are the last axis of (B, n_out)
    if option == "threshold":
        return float(given) >= 20  # PyTorch's default, too small by 2e-9 at most
    return bool(ours == "slope" or given == ours)


def _numpy(tensor: Any) -> Array:
    """Convert a tensor or array to float64 if it is that already, else to float32."""
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu().double() if "float64" in str(tensor.dtype) else (
            tensor.detach().cpu().float()
        )  # fmt: skip
        return np.asarray(tensor.numpy())
    array = np.asarray(tensor)
    return array if array.dtype == np.float64 else array.astype(np.float32)
