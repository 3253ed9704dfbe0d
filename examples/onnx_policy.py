"""A policy from an ONNX file in a control loop
============================================

A policy that was trained elsewhere moves a simulated robot, inside of one jitted loop.

Policies are handed on as ONNX files: normalization of the observations, linear layers with
activations between, and of the last layer's outputs the half that holds the actions. `from_onnx`
folds all of it into the layers of a `Network`, which a simulation in Numba calls as a function,
where a runtime would have to be called through Python at each step.

Run it with a file of your own as an argument, ``python examples/onnx_policy.py policy.onnx``; with
none it puts together a policy of the shape that walking robots have, with random weights.
"""

import importlib.util
import itertools
import os
import sys
import tempfile
import time

import matplotlib.pyplot as plt
import numba
import numpy as np

import deltajit as dj
from deltajit import kernels

SIZES = [48, 512, 256, 128, 24]  # half of the outputs are actions, half their deviations
STEPS, DT = 500, 0.02


# %%
# A file as exporters write it
# ----------------------------
def write_policy(path, seed=0):
    """Write normalization, layers of silu, which is ``x * sigmoid(x)``, Split and Tanh."""
    import onnx
    from onnx import helper, numpy_helper

    draw = np.random.default_rng(seed).normal
    constants = {"mean": draw(size=SIZES[0]), "inverse": 1 / (1 + abs(draw(size=SIZES[0])))}
    nodes = [helper.make_node("Sub", ["obs", "mean"], ["centred"])]
    nodes.append(helper.make_node("Mul", ["centred", "inverse"], ["a0"]))
    for i, (n_in, n_out) in enumerate(itertools.pairwise(SIZES)):
        constants[f"W{i}"] = draw(0, (2 / n_in) ** 0.5, (n_in, n_out))
        constants[f"b{i}"] = draw(0, 0.1, n_out)
        nodes.append(helper.make_node("Gemm", [f"a{i}", f"W{i}", f"b{i}"], [f"z{i}"]))
        if i < len(SIZES) - 2:
            nodes.append(helper.make_node("Sigmoid", [f"z{i}"], [f"s{i}"]))
            nodes.append(helper.make_node("Mul", [f"z{i}", f"s{i}"], [f"a{i + 1}"]))
    nodes.append(helper.make_node("Split", [f"z{i}"], ["means", "deviations"], axis=-1))
    nodes.append(helper.make_node("Tanh", ["means"], ["actions"]))
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "policy",
        [helper.make_tensor_value_info("obs", kind, [1, SIZES[0]])],
        [helper.make_tensor_value_info("actions", kind, [1, SIZES[-1] // 2])],
        [numpy_helper.from_array(x.astype(np.float32), name) for name, x in constants.items()],
    )
    versions = [helper.make_opsetid("", 11)]
    onnx.save(helper.make_model(graph, opset_imports=versions, ir_version=8), path)


# %%
# The robot, and its control loop
# -------------------------------
@numba.njit(cache=True)
def move(state, push, action, after):
    """Let a state decay while actions push it; `after` is the state one time step later."""
    for i in range(len(state)):
        force = np.float32(0)
        for j in range(len(action)):
            force += push[i, j] * action[j]
        after[i] = state[i] + np.float32(DT) * (force - state[i])


@numba.njit(cache=True)
def simulate(model, states, push, actions, work):
    """Observe, act and move from states[0]; the states and actions of all steps are kept."""
    for t in range(len(actions)):
        kernels.predict(model, states[t], actions[t], work)
        move(states[t], push, actions[t], states[t + 1])


def simulate_in_python(policy, states, push, actions):
    """Do the same with a policy that is a Python function."""
    for t in range(len(actions)):
        actions[t] = policy(states[t : t + 1])[0]
        move(states[t], push, actions[t], states[t + 1])


def onnx_runtime(path):
    """Return the file's policy as ONNX Runtime computes it, in one thread; None without it."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


# %%
# Both of them
# ------------
def run(path=None):
    """Load a policy, and simulate with it, and with ONNX Runtime if that is installed."""
    with tempfile.TemporaryDirectory() as folder:
        if path is None:
            path = os.path.join(folder, "policy.onnx")
            write_policy(path)
        net = dj.Network.from_onnx(path)
        policy = onnx_runtime(path)
    rng = np.random.default_rng(0)
    states = rng.normal(size=(STEPS + 1, net.sizes[0])).astype(net.dtype)
    push = rng.normal(size=(net.sizes[0], net.sizes[-1])).astype(net.dtype)
    actions = np.empty((STEPS, net.sizes[-1]), net.dtype)
    work = net.workspace(1)
    found = {"net": net, "actions": actions}

    simulate(net.model, states, push, actions[:1], work)  # compiles
    found["seconds"] = min(
        timed(simulate, net.model, states, push, actions, work) for _ in range(5)
    )
    if policy is not None:
        theirs = np.vstack([policy(state[None]) for state in states[:-1]])
        found["difference"] = abs(actions - theirs).max()
        found["seconds_of_onnx_runtime"] = min(
            timed(simulate_in_python, policy, states, push, theirs) for _ in range(5)
        )
    return found


def timed(function, *arguments):
    """Return the seconds that a call takes."""
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def draw(found):
    """Draw the first actions over time."""
    _, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
    for i, color in zip(range(found["actions"].shape[1]), dj.plot.PALETTE, strict=False):
        ax.plot(DT * np.arange(STEPS), found["actions"][:, i], color=color, label=f"action {i}")
    ax.set(xlabel="time", ylabel="what the policy does")
    ax.legend()


# %%
# Measured
# --------
if __name__ == "__main__":
    found = run(next((x for x in sys.argv[1:] if x.endswith(".onnx")), None))
    print(found["net"])
    print(f"a step of the jitted loop           {found['seconds'] / STEPS * 1e6:6.1f} us")
    if "difference" in found:
        each = found["seconds_of_onnx_runtime"] / STEPS * 1e6
        print(f"a step in Python with ONNX Runtime  {each:6.1f} us")
        print(f"largest difference of any action    {found['difference']:.1e}")
    draw(found)
    if "--show" in sys.argv:
        plt.show()
