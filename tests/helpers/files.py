"""Files of networks, taken apart and joined again."""

import json
import tracemalloc

import numpy as np

import deltajit as dj

MIB = 2**20


def some_net(seed=0, sizes=(3, 4, 2), activation="tanh", **options):
    """A network whose every parameter is random."""
    net = dj.Network(list(sizes), activation, rng=seed, **options)
    net.theta = np.random.default_rng(seed).normal(size=net.n_params)
    return net


def parts(content):
    """(header, description, tensors' bytes) of a file's content."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    return header, json.loads(header["__metadata__"]["deltajit"]), content[8 + length :]


def joined(header, data, description=None):
    """A file's content; header and description may be JSON text already."""
    if description is not None:
        text = description if isinstance(description, str) else json.dumps(description)
        header = {**header, "__metadata__": {"deltajit": text}}
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return len(text).to_bytes(8, "little") + text + data


def peak_of_loading(path):
    """Most bytes that are allocated at a time while a file is loaded, and what came of it."""
    tracemalloc.start()
    try:
        net = dj.load(path)
    except dj.FormatError:
        net = None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak, net
