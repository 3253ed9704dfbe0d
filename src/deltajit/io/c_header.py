"""Networks as C99 headers."""

from __future__ import annotations

import os
import re

import numpy as np

from deltajit.io.files import Path, replace
from deltajit.io.forms import FORMS, check_forms
from deltajit.model import checks
from deltajit.model.architecture import Architecture
from deltajit.model.memory import Array

LINEAR = """\
/* z = W x + b, with W (n_out, n_in) in rows. */
static inline void {name}_linear(
    const {T} *W, const {T} *b, int n_in, int n_out, const {T} *x, {T} *z)
{{
    for (int i = 0; i < n_out; i++) {{
        {T} sum = b[i];
        for (int j = 0; j < n_in; j++)
            sum += W[i * (long)n_in + j] * x[j];
        z[i] = sum;
    }}
}}
"""

ELEMENTWISE = """\
static inline void {name}_{activation}({T} *z, int n)
{{
    for (int i = 0; i < n; i++) {{
        const {T} x = z[i];
        z[i] = {c};
    }}
}}
"""

SOFTMAX = """\
static inline void {name}_softmax({T} *z, int n)
{{
    {T} top = z[0], sum = 0;
    for (int i = 1; i < n; i++)
        top = z[i] > top ? z[i] : top;
    for (int i = 0; i < n; i++)
        sum += z[i] = exp{f}(z[i] - top);
    for (int i = 0; i < n; i++)
        z[i] /= sum;
}}
"""

HEADER = """\
/* {about}, written by deltajit.
 *
 *     #include "{file}"
 *
 *     {T} x[{n_in}] = {{...}}, out[{n_out}];
 *     {name}_predict(x, out);
 *
 * C99, of one sample; x and out must not overlap. It allocates nothing, takes {stack:,} bytes of
 * stack, and may be called by many threads at once. Link with -lm.
 */
#ifndef {guard}
#define {guard}

#include <math.h>
"""


def to_c(architecture: Architecture, theta: Array, path: Path, name: str | None) -> None:
    """Write `predict` of one sample as a C99 header: see `Network.to_c`."""
    check_forms(architecture, "to_c")
    file = os.path.basename(checks.path(path))
    if name is None:
        name = re.sub(r"\W", "_", os.path.splitext(file)[0], flags=re.ASCII)
        name = f"_{name}" if name[:1].isdigit() else name
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"name must be a name in C, of letters, digits and _; got {name!r}")
    single = architecture.dtype == np.float32
    words = {"name": name, "T": "float" if single else "double", "f": "f" if single else ""}
    sizes, buffers = architecture.sizes, _buffers(architecture)
    parts = [
        HEADER.format(
            about=f"{'-'.join(map(str, sizes))}, {' -> '.join(architecture.activations)}",
            file=re.sub(r"[^\w.\- ]", "_", file),
            n_in=sizes[0],
            n_out=sizes[-1],
            stack=sum(buffers.values()) * architecture.dtype.itemsize,
            guard=f"{name.upper()}_H",
            **words,
        )
    ]
    for of, given in (("INPUTS", architecture.input_names), ("CLASSES", architecture.class_names)):
        if given is not None:
            parts.append(f"/* const char *names[] = {name.upper()}_{of}; */")
            parts.append(f"#define {name.upper()}_{of} {{{', '.join(map(_string, given))}}}\n")
    for i, (W, b) in enumerate(zip(*architecture.unflatten(theta), strict=True)):
        parts += [_array(f"{name}_W{i}", W, words), _array(f"{name}_b{i}", b, words)]
    parts.append(LINEAR.format(**words))
    for activation in sorted({*architecture.activations} - {"identity"}):
        expression = FORMS[activation].c.format(slope=_number(architecture.slope, words), **words)
        text = ELEMENTWISE if expression else SOFTMAX
        parts.append(text.format(activation=activation, c=expression, **words))
    parts += [_predict(architecture, buffers, words), "#endif\n"]
    replace(path, "\n".join(parts).encode())


def _buffers(architecture: Architecture) -> dict[str, int]:
    """Return the sizes, by name, of the one or two buffers that layers write to in turns."""
    hidden = architecture.sizes[1:-1]
    pairs = {"even": hidden[::2], "odd": hidden[1::2]}
    return {name: max(sizes) for name, sizes in pairs.items() if sizes}


def _predict(architecture: Architecture, buffers: dict[str, int], words: dict[str, str]) -> str:
    """Write the function that calls one layer after the other."""
    name, T, last = words["name"], words["T"], len(architecture.sizes) - 2
    lines = [f"static inline void {name}_predict(const {T} *x, {T} *out)", "{"]
    lines += [f"    {T} {buffer}[{size}];" for buffer, size in buffers.items()]
    x = "x"
    for i, activation in enumerate(architecture.activations):
        z = "out" if i == last else ("even", "odd")[i % 2]
        n_in, n_out = architecture.sizes[i : i + 2]
        lines.append(f"    {name}_linear({name}_W{i}, {name}_b{i}, {n_in}, {n_out}, {x}, {z});")
        if activation != "identity":
            lines.append(f"    {name}_{activation}({z}, {n_out});")
        x = z
    return "\n".join([*lines, "}", ""])


def _array(name: str, values: Array, words: dict[str, str]) -> str:
    numbers = [_number(value, words) for value in values.ravel().tolist()]
    rows = [", ".join(numbers[i : i + 4]) for i in range(0, len(numbers), 4)]
    body = ",\n    ".join(rows)
    return f"static const {words['T']} {name}[{len(numbers)}] = {{\n    {body}\n}};\n"


def _string(text: str) -> str:
    """Write a literal of plain ASCII, with the other bytes of UTF-8 in octal."""
    plain = {x: chr(x) for x in range(32, 127) if chr(x) not in '"?\\'}
    return '"' + "".join(plain.get(x, f"\\{x:03o}") for x in text.encode()) + '"'


def _number(value: float, words: dict[str, str]) -> str:
    """Write a literal with all digits of its type."""
    if not np.isfinite(value):
        return "NAN" if np.isnan(value) else "INFINITY" if value > 0 else "-INFINITY"
    return f"{value:.8e}f" if words["f"] else f"{value:.16e}"
