"""``python -m bench.single``: one sample at a time, from Python and from inside ``@njit`` code."""

import importlib.util
import tempfile

from bench import store

NETWORKS = [(16, 64, 64, 8), (4, 32, 16, 4), (2, 16, 1)]
NAMES = {"deltajit": "deltajit", "NumPy": "NumPy", "PyTorch": "PyTorch", "JAX": "JAX (jit)"}
SECONDS, CHUNK_SECONDS = 3.0, 0.002


def run():
    """Print a table of latencies, in nanoseconds a call."""
    from bench import cases, checks, libraries
    from bench.clock import Contestant, medians

    results = {}
    found = [library for library in libraries.available() if library.name in NAMES]
    for case in (cases.Case(sizes, "tanh", 1) for sizes in NETWORKS):
        problem = cases.problem(case)
        for library in found:
            checks.check(library, problem)
        calls = loops([library(problem) for library in found]).items()
        times = medians([Contestant(*c, 1 << 40) for c in calls], SECONDS, CHUNK_SECONDS)
        network, _, _ = case.name.partition(",")
        results[network] = {name: 1e9 * t for name, t in times.items()}
        print(f"{network}, one sample, float32: median ns a call")
        for name, seconds in times.items():
            print(f"  {name:42}{seconds * 1e9:10.0f}")
    return {"ns a call": results}


def loops(subjects):
    """{what: function of how often to call it}: in one jitted loop, and from Python."""
    from bench.clock import repeat

    calls = {f"deltajit {name} from @njit": call for name, call in jitted(subjects[0]).items()}
    for subject in subjects:
        for what in ("predict", "value_and_grad"):
            calls[f"{NAMES[subject.name]} {what} from Python"] = repeat(getattr(subject, what))
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
        calls["ONNX Runtime predict from Python"] = repeat(onnx(subjects[0]))
    return calls


def onnx(subject):
    """The network's predict in ONNX Runtime."""
    import numpy as np
    import onnxruntime

    options, x = onnxruntime.SessionOptions(), subject.X[:1].copy()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        subject.net.to_onnx(path := f"{folder}/net.onnx")
        session = onnxruntime.InferenceSession(path, options)
    name = session.get_inputs()[0].name
    np.testing.assert_allclose(session.run(None, {name: x})[0], subject.net.predict(x), rtol=1e-4)
    return lambda: session.run(None, {name: x})


def jitted(subject):
    """{kernel: jitted loop}, of so many calls. The sample changes, so that no call is moot."""
    import numba
    import numpy as np

    from deltajit import kernels

    model, x, y = subject.net.model, subject.X[:1].copy(), subject.targets[:1].copy()
    out, grad, work, lr = np.empty_like(y), subject.grad, subject.net.workspace(1), np.float32(1e-6)

    @numba.njit  # arguments in a tuple would cost 70 ns
    def predict(times, model, x, out, work):
        for i in range(times):
            x[0, 0] = i & 1
            kernels.predict(model, x, out, work)

    @numba.njit
    def value_and_grad(times, model, x, y, grad, work):
        for i in range(times):
            x[0, 0] = i & 1
            kernels.value_and_grad(model, x, y, grad, work)

    @numba.njit
    def sgd_step(times, model, x, y, lr, grad, work):
        for i in range(times):
            x[0, 0] = i & 1
            kernels.sgd_step(model, x, y, lr, grad, work)

    return {
        "predict": lambda times: predict(times, model, x, out, work),
        "value_and_grad": lambda times: value_and_grad(times, model, x, y, grad, work),
        "sgd_step": lambda times: sgd_step(times, model, x, y, lr, grad, work),
    }


if __name__ == "__main__":
    store.run("single", run)
