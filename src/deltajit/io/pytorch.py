"""Networks to and from PyTorch."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from deltajit.io.forms import FORMS, assembled, check_forms
from deltajit.io.recognition import Recognized, recognized
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
    source: object,
    activation: object,
    output: str,
    loss: str,
    options: Mapping[str, object],
    prefix: str = "",
) -> tuple[Architecture, Array]:
    """Return an architecture and a copied theta of a PyTorch network: see `Network.from_torch`."""
    if prefix and not isinstance(source, Mapping):
        raise TypeError(f"prefix is for a state_dict, source is a {type(source).__name__}")
    if isinstance(source, Mapping):
        weights, biases = _of_state_dict(source, prefix)
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


def _of_state_dict(source: Mapping[str, object], prefix: str) -> tuple[list[Array], list[Array]]:
    """Return weights and biases in order, of names with a prefix; a missing bias is 0."""
    weights, biases, used = [], [], set()
    names = [name for name in source if name.startswith(prefix)]
    for name in _in_order([name for name in names if name.split(".")[-1] == "weight"]):
        W, bias = _numpy(source[name]), name.removesuffix("weight") + "bias"
        weights.append(W)
        biases.append(_numpy(source[bias]) if bias in source else np.zeros(W.shape[:1], W.dtype))
        used |= {name, bias}
    rest = [name for name in names if name not in used]
    if rest or not weights:
        hint = "" if prefix else '; for a part of it pass prefix="actor.", say'
        raise ValueError(
            f'source must be a state_dict of Linear layers, with names such as "{prefix}0.weight" '
            f'and "{prefix}0.bias"; got {rest or "an empty one"}{hint}'
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
        kind = _kind(module)
        if kind == "Linear":
            W = _numpy(module.weight)
            weights.append(W)
            biases.append(np.zeros(len(W), W.dtype) if module.bias is None else _numpy(module.bias))
            names.append("identity")
        elif kind not in PASSIVE:
            if not names or names[-1] != "identity":
                raise ValueError(f"{module!r} must come right behind a Linear layer")
            names[-1], slope = _scripted(module) if _is_script(module) else _name_of(module)
            if names[-1] == "leaky_relu":
                slopes.append(slope)
    if not weights:
        raise ValueError(f"source must have Linear layers, got {source!r}")
    return weights, biases, names, slopes


def _leaves(source: Any) -> Iterator[Any]:
    """Yield the modules of a Sequential, and of those nested in it, in order."""
    if _kind(source) != "Sequential":
        raise TypeError(
            f"source must be a torch.nn.Sequential or a state_dict, got {_kind(source)}; "
            "for another Module pass its state_dict() and say activation=..."
        )
    for name, module in source.named_modules(remove_duplicate=False):
        if not name or "." in name:
            continue  # itself, or a part of a part
        if _kind(module) == "Sequential":
            yield from _leaves(module)
        else:
            yield module


def _is_script(module: object) -> bool:
    """Return whether a module is TorchScript, from torch.jit.script, trace or load."""
    torch = sys.modules.get("torch")  # which whoever has a module has imported
    return torch is not None and isinstance(module, torch.jit.ScriptModule)


def _kind(module: Any) -> str:
    """Return the name of a module's class, in TorchScript too, and of Sequential's subclasses."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(module, torch.nn.Sequential):
        return "Sequential"
    return str(module.original_name) if _is_script(module) else type(module).__name__


def _scripted(module: Any) -> tuple[str, float]:
    """Return our name of an activation in TorchScript, by its values, and a slope."""
    import torch

    def f(rows: Array) -> Array:
        with torch.no_grad():
            return np.asarray(module(torch.from_numpy(rows)).numpy())

    if isinstance(module, torch.jit.TracedModule):  # whose parts can't be called yet
        raise TypeError("source must be a trace that was saved, as torch.jit.load returns it")
    rows = np.array([[0.0, 1.0, 3.0], [2.0, 0.0, -1.0]])
    e = np.exp(rows)
    if _kind(module) == "Softmax" and np.allclose(f(rows), e / e.sum(1, keepdims=True)):
        return "softmax", 0.0
    found = recognized(lambda z: f(z[:, None])[:, 0], ())
    if found is None or found != Recognized(found.name, slope=found.slope):
        raise ValueError(f"{_kind(module)} must be Linear or one of our activations")
    return found.name, found.slope


def _name_of(module: Any) -> tuple[str, float]:
    """Return our name of a module's activation, after checking its options, and its slope."""
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
        return name, float(getattr(module, "negative_slope", 0.0))
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
