"""The peers benchmark: deltajit beside NumPy, PyTorch, JAX and scikit-learn.

    python -m bench.peers    one JSON and one picture: training steps, gradients, predictions
    python -m bench.table    the README's table, from that JSON
    python -m bench.mnist    MNIST 784-30-10: time of a whole run, and test accuracy
    python -m bench.single   one sample: latencies from Python and from @njit code
    python -m bench.gallery  no benchmark: the README's picture of what dj.plot draws

Run from the top of the repository. Peers that are not installed are left out, with a line saying so
(``pip install -e ".[bench,peers]"`` brings them all).
"""
