"""Mutants of files: each is refused, or is a network that can be used."""

import json
from collections import Counter

import numpy as np
import safetensors
import safetensors.numpy

from tests.helpers.files import MIB, joined, parts, peak_of_loading, some_net

ODD = [
    0, 1, -1, 2, 3, 16, 2**31, 2**63, 2**64, 10**30, 10**400, 0.5, 1e308, -0.0, True, False, None,
    "", "F32", "F64", "BF16", "tanh", "softmax", "cross_entropy", "float64", "\ud800", "x" * 300,
    [], [[]], {}, {"a": 1}, [3, 4, 2], [0, 16],
]  # fmt: skip
TOKENS = ["NaN", "Infinity", "1e999", "-1", "01", "9" * 5000, "[" * 3000, '{"a":' * 3000, '"', "\\"]


def spots(tree):
    """(container, key) of everything in a JSON tree."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], (dict, list)):
            yield from spots(tree[key])


def picked(rng, options):
    return options[rng.integers(len(options))]


def edit(rng, tree):
    """Change, remove, add, double or swap something in a JSON tree."""
    container, key = picked(rng, list(spots(tree)))
    match rng.integers(5):
        case 0:
            container[key] = picked(rng, ODD)
        case 1:
            del container[key]
        case 2 if isinstance(container, dict):
            container[str(picked(rng, [*ODD, "layers.2.bias", "offset"]))[:50]] = container[key]
        case 3 if isinstance(container, list):
            container.insert(key, container[key])
        case _:
            other, place = picked(rng, list(spots(tree)))
            container[key], other[place] = other[place], container[key]


def edit_header(rng, content, _):
    header, _, data = parts(content)
    edit(rng, header)
    try:
        return joined(header, data)
    except (ValueError, RecursionError):  # the swap put a container into itself
        return content


def edit_description(rng, content, _):
    header, description, data = parts(content)
    edit(rng, description)
    try:
        return joined(header, data, description)
    except (ValueError, RecursionError):
        return content


def edit_text(rng, content, _):
    """Put something odd into the header's text, or take a piece out or in twice."""
    header, _, data = parts(content)
    text = json.dumps(header)
    i, j = sorted(rng.integers(len(text), size=2))
    j = min(j, i + 30)
    middle = picked(rng, ["", text[i:j] * 2, picked(rng, TOKENS), picked(rng, TOKENS) + text[i:j]])
    return joined(text[:i] + middle + text[j:], data)


def double_key(rng, content, _):
    header, description, data = parts(content)
    text, inner = json.dumps(header), json.dumps(description)
    name = picked(rng, ["layers.0.bias", "layers.0.weight", "__metadata__", "shape", "dtype"])
    at = text.index("{", int(rng.integers(text.rindex("{")))) + 1
    doubled = text[:at] + f'"{name}":' + json.dumps(header.get(name, "F32")) + "," + text[at:]
    field = picked(rng, ["sizes", "l2", "loss"])
    again = inner.replace(
        f'"{field}"', f'"{field}": {json.dumps(picked(rng, ODD[:20]))}, "{field}"'
    )
    return joined(doubled, data) if rng.random() < 0.5 else joined(header, data, again)


def swap_offsets(rng, content, _):
    header, _, data = parts(content)
    names = [name for name in header if name != "__metadata__"]
    first, second = picked(rng, names), picked(rng, names)
    a, b = header[first]["data_offsets"], header[second]["data_offsets"]
    match rng.integers(3):
        case 0:
            header[first]["data_offsets"], header[second]["data_offsets"] = b, a
        case 1:
            a[0], b[0] = b[0], a[0]
        case 2:
            a[rng.integers(2)] += int(picked(rng, [-8, -1, 1, 4, 2**40, -(2**62)]))
    return joined(header, data)


def flip(rng, content, _):
    """Bits anywhere."""
    mutant = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        mutant[rng.integers(len(mutant))] ^= 1 << rng.integers(8)
    return bytes(mutant)


def flip_in_header(rng, content, _):
    length = int.from_bytes(content[:8], "little")
    return flip(rng, content[: 8 + length], None) + content[8 + length :]


def cut(rng, content, other):
    """Truncated, extended, or the front of one file before the end of another."""
    at = rng.integers(len(content))
    match rng.integers(3):
        case 0:
            return content[:at]
        case 1:
            return content + rng.bytes(rng.integers(1, 64))
    return content[:at] + other[rng.integers(len(other)) :]


def change_length(rng, content, _):
    length = int.from_bytes(content[:8], "little")
    odd = [0, 1, 2, length - 1, length + 1, length + 8, len(content) - 8, len(content), 2**18,
           2**31, 2**63, 2**64 - 1, int(rng.integers(2**62)), int(rng.integers(2000))]  # fmt: skip
    return picked(rng, odd).to_bytes(8, "little") + content[8:]


def noise(rng, content, _):
    return rng.bytes(rng.integers(300))


MUTATIONS = [
    edit_header, edit_description, edit_text, double_key, swap_offsets, flip, flip_in_header, cut,
    change_length, noise,
]  # fmt: skip


def test_mutants(path):
    """10,000 of them: each is refused by a FormatError, or is a network that can be used."""
    rng, contents = np.random.default_rng(12), []
    for options in (
        dict(sizes=[3, 4, 2]),
        dict(sizes=[2, 2, 2, 2], activation=["relu", "leaky_relu"], dtype="float64", l2=0.5),
        dict(sizes=[9, 32, 3], output="softmax"),
        dict(sizes=[1, 1], output="sigmoid"),
    ):
        some_net(**options).save(path)
        contents.append(path.read_bytes())
    outcomes = Counter()
    for i in range(10_000):
        mutate = MUTATIONS[i % len(MUTATIONS)]
        mutant = mutate(rng, picked(rng, contents), picked(rng, contents))
        path.write_bytes(mutant)
        peak, net = peak_of_loading(path)
        assert peak <= len(mutant) + 16 * MIB
        outcomes[mutate.__name__, "refused" if net is None else "loaded"] += 1
        if net is not None:  # then the library, the more lenient reader, reads the same
            tensors = safetensors.numpy.load(mutant)
            for k, W in enumerate(net.weights):
                np.testing.assert_array_equal(tensors[f"layers.{k}.weight"], W)
            assert net.predict(np.zeros(net.sizes[0])).shape == (net.sizes[-1],)
    assert outcomes.total() == 10_000
    for mutate in MUTATIONS:
        print(mutate.__name__, outcomes[mutate.__name__, "loaded"], "loaded")
        assert outcomes[mutate.__name__, "refused"] > 100
    assert outcomes["flip", "loaded"] > 100  # of weights' bits
