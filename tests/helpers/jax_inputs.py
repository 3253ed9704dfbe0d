"""What JAX says of derivatives with respect to inputs: `python -m tests.helpers.jax_inputs`.

Needs jax, and prints the numbers that tests/api/test_input_derivatives.py holds.
"""

import itertools

import numpy as np

SIZES = [2, 5, 4, 2]


def case():
    """Parameters and points that anybody can write down: (weights, biases, X)."""
    rng = np.arange(1, 100)
    at, weights, biases = 0, [], []
    for n_in, n_out in itertools.pairwise(SIZES):
        weights.append(np.sin(rng[at : at + n_in * n_out]).reshape(n_out, n_in))
        at += n_in * n_out
        biases.append(np.cos(rng[at : at + n_out]) / 2)
        at += n_out
    return weights, biases, np.array([[0.3, -0.7], [-1.1, 0.4]])


def residual(u, v, u_x, v_x, u_t, v_t, u_xx, v_xx, u_tt, v_tt, x, t):
    """A function of all that a circuit may take."""
    return (u_t - u_xx + u * v_x) ** 2 + v * v_tt * x + u_tt**3 - v_t * v_xx * t + u_x


def main():
    """Print them."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    weights, biases, X = case()

    def predict(theta, x):
        *hidden, last = zip(*theta, strict=True)
        for W, b in hidden:
            x = jnp.tanh(W @ x + b)
        return last[0] @ x + last[1]

    def loss(theta):
        def of_point(x):
            J, H = jax.jacfwd(predict, 1)(theta, x), jax.hessian(predict, 1)(theta, x)
            u = predict(theta, x)
            return residual(*u, *J[:, 0], *J[:, 1], *H[:, 0, 0], *H[:, 1, 1], *x)

        return jax.vmap(of_point)(X).mean()

    theta = weights, biases
    H = jax.vmap(lambda x: jax.hessian(predict, 1)(theta, x))(X)
    value, (dW, db) = jax.value_and_grad(loss)(theta)
    np.set_printoptions(precision=17, floatmode="unique")
    print("HESSIAN =", repr(np.asarray(H)))
    print("LOSS =", float(value))
    print("DW =", [float(np.vdot(d, np.cos(W))) for d, W in zip(dW, weights, strict=True)])
    print("DB =", [float(np.vdot(d, np.cos(b))) for d, b in zip(db, biases, strict=True)])


if __name__ == "__main__":
    main()
