"""``python -m bench.single``: one sample at a time, from Python and from inside ``@njit`` code."""

import importlib.util
import tempfile

from bench import limits, store

NETWORKS = [((16, 64, 64, 8), "tanh"), ((4, 32, 16, 4), "tanh"), ((2, 16, 1), "tanh")]
NAMES = ("deltajit", "NumPy", "PyTorch", "JAX scan")
SECONDS, CHUNK_SECONDS = 3.0, 0.002


def run():
    """Print a table of latencies, in nanoseconds a call."""
    from bench import cases, checks, libraries, machine
    from bench.clock import medians

    results = {"machine": machine.describe(), "ns a call": {}}
    found = [x for x in libraries.available() if x.name in NAMES]
    for sizes, activation in NETWORKS:
        case = cases.Case(sizes, activation, 1)
        problem = cases.problem(case)
        for library in found:
            checks.check(library, problem)
        subjects = [library(problem) for library in found]
        times = medians(_contestants(subjects), SECONDS, CHUNK_SECONDS)
        results["ns a call"][case.name] = {name: 1e9 * t for name, t in times.items()}
        print(f"{case.name}, one sample, float32: median ns a call")
        for name, seconds in times.items():
            print(f"  {name:42}{seconds * 1e9:10.0f}")
    print(store.save("single", results))


def _contestants(subjects):
    """Calls from Python for every library, and loops of calls inside one jitted function."""
    from bench.clock import Contestant, repeat
    from bench.libraries import Jax

    contestants = [
        Contestant(f"deltajit {name} from @njit", call, 1 << 40)
        for name, call in _jitted(subjects[0]).items()
    ]
    for subject in subjects:
        library = "JAX (jit)" if isinstance(subject, Jax) else subject.name
        for what in ("predict", "value_and_grad"):
            name = f"{library} {what} from Python"
            contestants.append(Contestant(name, repeat(getattr(subject, what)), 1 << 40))
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
        call = repeat(_onnx(subjects[0]))
        contestants.append(Contestant("ONNX Runtime predict from Python", call, 1 << 40))
    return contestants


def _onnx(subject):
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


def _jitted(subject):
    """{kernel: function of how often to call it}. The sample changes, so that no call is moot."""
    import numba
    import numpy as np

    from deltajit import kernels

    net, lr = subject.net, np.float32(1e-6)
    x, y = subject.X[:1].copy(), subject.targets[:1].copy()
    out, grad, work = np.empty_like(y), subject.grad, net.workspace(1)

    @numba.njit
    def predict(model, x, out, work, times):
        for i in range(times):
            x[0, 0] = i & 1
            kernels.predict(model, x, out, work)

    @numba.njit
    def value_and_grad(model, x, y, grad, work, times):
        for i in range(times):
            x[0, 0] = i & 1
            kernels.value_and_grad(model, x, y, grad, work)

    @numba.njit
    def sgd_step(model, x, y, lr, grad, work, times):
        for i in range(times):
            x[0, 0] = i & 1
            kernels.sgd_step(model, x, y, lr, grad, work)

    return {
        "predict": lambda times: predict(net.model, x, out, work, times),
        "value_and_grad": lambda times: value_and_grad(net.model, x, y, grad, work, times),
        "sgd_step": lambda times: sgd_step(net.model, x, y, lr, grad, work, times),
    }


if __name__ == "__main__":
    limits.hold(1)
    run()
