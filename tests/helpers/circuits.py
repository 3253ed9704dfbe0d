"""Circuits for tests: random ones made of every operation there is, and what they should give."""

import numpy as np

import deltajit as dj
from deltajit.circuits import primitives as operations

# Of traced values a and b; arguments of log and roots stay where these are defined.
FORMULAS = {
    "add": lambda a, b: 0.7 * (a + b),
    "subtract": lambda a, b: 0.7 * (a - b),
    "multiply": lambda a, b: 0.5 * a * b,
    "divide": lambda a, b: a / (1.5 + b * b),
    "maximum": lambda a, b: np.maximum(a, b),
    "minimum": lambda a, b: np.minimum(a, b),
    "power": lambda a, b: (1.5 + a * a) ** np.tanh(b),
    "constant_power": lambda a, b: (1.5 + a * a) ** 1.7,
    "logaddexp": lambda a, b: np.logaddexp(a, b),
    "where": lambda a, b: dj.circuit.where(a > b, np.sin(a), 0.5 * b),
    "less_equal": lambda a, b: dj.circuit.where(a <= 0.1, b, a * b),
    "equal": lambda a, b: dj.circuit.where(a == b, b, 0.3 * a),
    "negative": lambda a, b: -a,
    "absolute": lambda a, b: abs(a),
    "sqrt": lambda a, b: np.sqrt(1.5 + a * a),
    "exp": lambda a, b: np.exp(-a * a),
    "exp2": lambda a, b: np.exp2(-a * a),
    "expm1": lambda a, b: np.expm1(-a * a),
    "log": lambda a, b: np.log(1.5 + a * a),
    "log1p": lambda a, b: np.log1p(a * a),
    "sin": lambda a, b: np.sin(a),
    "cos": lambda a, b: np.cos(a),
    "tan": lambda a, b: np.tan(np.tanh(a)),
    "sinh": lambda a, b: np.sinh(np.tanh(a)),
    "cosh": lambda a, b: np.cosh(np.tanh(a)),
    "tanh": lambda a, b: np.tanh(a),
    "sigmoid": lambda a, b: dj.circuit.sigmoid(a),
    "softplus": lambda a, b: dj.circuit.softplus(a),
    "relu": lambda a, b: dj.circuit.relu(a),
}


def random_function(n_formulas, seed, names=tuple(FORMULAS), pool=12):
    """A function of any number of scalars: formulas of values of a pool, which they replace."""

    def f(*x):
        rng = np.random.default_rng(seed)
        values = [x[i % len(x)] + 0.1 * i for i in range(pool)]
        for name, i, j in zip(
            rng.choice(names, n_formulas), *rng.integers(pool, size=(2, n_formulas)), strict=True
        ):
            values[i] = FORMULAS[name](values[i], values[j])
        return sum(values)

    return f


def expected(circuit, X):
    """(values (B, m), Jacobian (B, m, n)) by the NumPy reference."""
    graph = circuit.graph
    found = operations.values(graph, X.T)
    batch, n = X.shape
    values = [np.broadcast_to(found[k], batch) for k in graph.outputs]
    slopes = [
        [np.broadcast_to(s, batch) for s in operations.adjoints(graph, found, q)[:n]]
        for q in range(graph.outputs.size)
    ]
    return np.stack(values, axis=1), np.transpose(slopes, (2, 0, 1))


def expected_hvp(circuit, X, V):
    """The Hessian times V (B, n), by a complex step of the reference's gradient."""
    return expected(circuit, X + 1e-30j * V)[1][:, 0].imag / 1e-30


def complex_step(circuit, X, V):
    """Derivatives of the first output along V (B,), by a complex step of its value."""
    found = operations.values(circuit.graph, (X + 1e-30j * V).T)
    return np.broadcast_to(found[circuit.graph.outputs[0]], len(X)).imag / 1e-30
