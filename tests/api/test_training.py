"""Training: the update rules against NumPy, minibatches, and that networks learn."""

import itertools

import numpy as np
import pytest

import deltajit as dj
from deltajit import reference
from tests.helpers.networks import DTYPES, make_case

OPTIMIZERS = [
    dj.SGD(0.1),
    dj.SGD(0.1, momentum=0.9),
    dj.SGD(0.1, momentum=0.9, nesterov=True),
    dj.Adam(0.01),
    dj.Adam(0.02, betas=(0.8, 0.99), eps=1e-4),
    dj.AdamW(0.01, weight_decay=0.3),
    dj.RAdam(0.02, betas=(0.8, 0.9), eps=1e-4),
    dj.RMSProp(0.001),
    dj.RMSProp(0.001, alpha=0.9, eps=1e-3, momentum=0.8),
    dj.Adagrad(0.02),
    dj.Lion(0.003, weight_decay=0.2),
    *(record() for record in dj.kernels.OPTIMIZERS.values()),
]


def twin_of(optimizer, parameters):
    """``step(gradients, lr)`` of an optimizer in NumPy, which changes the parameters."""
    count, numbers = itertools.count(1), vars(optimizer)
    states = [[np.zeros_like(p), np.zeros_like(p)] for p in parameters]
    update = reference.OPTIMIZERS[type(optimizer).__name__]

    def step(gradients, lr=optimizer.lr):
        t = next(count)
        for p, g, state in zip(parameters, gradients, states, strict=True):
            update(p, g, state, t, **{**numbers, "lr": lr})

    return step


def reference_fit(net, X, Y, optimizer, batches, weights=None, rates=None, clip=None):
    """The same training in NumPy, over the given index lists; changes net.theta."""
    parameters = net.reference.weights + net.reference.biases
    step = twin_of(optimizer, parameters)
    for i, batch in enumerate(batches):
        w = None if weights is None else weights[batch]
        _, dW, db = reference.value_and_grad(net.reference, X[batch], Y[batch], w)
        gradients = dW + db if clip is None else reference.clip(dW + db, clip)
        step(gradients, optimizer.lr if rates is None else rates[i])


def batches_of(n, batch_size, epochs, seed):
    """Index lists as fit goes through them."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(n) for _ in range(epochs)]
    return [order[i : i + batch_size] for order in orders for i in range(0, n, batch_size)]


def twins(dtype, batch=23, **options):
    """Two networks with the same theta, the second in float64, and data."""
    case = ([3, 5, 2], "tanh", "softmax", "cross_entropy")
    net, X, Y = make_case(*case, dtype, batch, **options)
    twin, _, _ = make_case(*case, "float64", batch, **options)
    twin.theta = net.theta
    return net, twin, X, Y


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch_size", [1, 4, 10, 23, 100])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_fit_is_the_reference(optimizer, batch_size, dtype):
    net, twin, X, Y = twins(dtype, l2=0.01)
    history = net.fit(X, Y, epochs=3, batch_size=batch_size, optimizer=optimizer, rng=7)
    batch_size = 23 if isinstance(optimizer, dj.Rprop) else batch_size
    reference_fit(twin, X, Y, optimizer, batches_of(23, batch_size, 3, 7))
    tolerance = {"float32": 3e-5, "float64": 1e-11}[dtype]
    np.testing.assert_allclose(net.theta, twin.theta, rtol=tolerance, atol=tolerance)
    assert len(history.loss) == len(history.time) == len(history.lr) == 3


def test_a_large_batch_accumulates_the_gradients_of_its_parts_in_the_memory_of_one():
    net, X, Y = make_case([3, 5, 2], "tanh", "softmax", "cross_entropy", "float64", 3000, l2=0.01)
    parts = [net.grad(X[i : i + 100], Y[i : i + 100]) for i in range(0, 3000, 100)]
    expected = net.theta - 0.1 * np.mean(parts, axis=0)
    net.fit(X, Y, 1, batch_size=3000, optimizer=dj.SGD(0.1))
    np.testing.assert_allclose(net.theta, expected, 1e-12, 1e-14)
    assert net.workspace(3000).size == net.workspace(256).size


@pytest.mark.parametrize("clip", [0.05, 0.5, 1e9])
@pytest.mark.parametrize("optimizer", [OPTIMIZERS[0], OPTIMIZERS[1], OPTIMIZERS[3]], ids=str)
def test_clipping(optimizer, clip):
    net, twin, X, Y = twins("float64")
    unclipped = net.theta.copy()
    net.fit(X, Y, 3, 4, optimizer, clip_norm=clip, rng=7)
    reference_fit(twin, X, Y, optimizer, batches_of(23, 4, 3, 7), clip=clip)
    np.testing.assert_allclose(net.theta, twin.theta, rtol=1e-11, atol=1e-11)
    twin.theta = unclipped
    twin.fit(X, Y, 3, 4, optimizer, rng=7)
    assert (np.abs(net.theta - twin.theta).max() > 1e-6) == (clip < 1)


@pytest.mark.parametrize("optimizer", [OPTIMIZERS[0], OPTIMIZERS[2], OPTIMIZERS[5]], ids=str)
@pytest.mark.parametrize(
    "schedule",
    [
        dj.schedules.StepDecay(2, 0.5),
        dj.schedules.ExponentialDecay(0.8),
        dj.schedules.CosineDecay(warmup=1.5, floor=0.1),
        dj.schedules.OneCycle(),
    ],
    ids=str,
)
def test_schedules(schedule, optimizer):
    net, twin, X, Y = twins("float64")
    history = net.fit(X, Y, 5, 4, optimizer, schedule=schedule, rng=7)
    rates = dj.schedules.rates(schedule, optimizer.lr, 5, 6)
    reference_fit(twin, X, Y, optimizer, batches_of(23, 4, 5, 7), rates=rates)
    np.testing.assert_allclose(net.theta, twin.theta, rtol=1e-11, atol=1e-11)
    np.testing.assert_array_equal(history.lr, [*rates[6::6], rates[-1]])


def test_rates_of_schedules():
    """An epoch of ten updates; values that can be worked out by hand."""
    steps = dj.schedules.rates(dj.schedules.StepDecay(2, 0.5), 8.0, 5, 10)
    np.testing.assert_allclose(steps[[0, 19, 20, 40, 49]], [8, 8, 4, 2, 2])
    exponential = dj.schedules.rates(dj.schedules.ExponentialDecay(0.25), 8.0, 2, 10)
    np.testing.assert_allclose(exponential[[0, 5, 10, 15]], [8, 4, 2, 1])
    cosine = dj.schedules.rates(dj.schedules.CosineDecay(floor=0.5), 8.0, 4, 10)
    np.testing.assert_allclose(cosine[[0, 20]], [8, 6])
    assert cosine[-1] == pytest.approx(4, abs=0.01)
    warm = dj.schedules.rates(dj.schedules.CosineDecay(warmup=0.9), 8.0, 4, 10)
    np.testing.assert_allclose(warm[[0, 4, 9]], [0.8, 4, 8])
    one = dj.schedules.rates(dj.schedules.OneCycle(0.5, 8.0, 4.0), 8.0, 4, 10)
    np.testing.assert_allclose(one[[0, 10, 20, 30]], [1, 4.5, 8, 5])
    assert dj.schedules.rates(None, 8.0, 4, 10).tolist() == [8.0]


def test_against_pytorch():
    torch = pytest.importorskip("torch")
    makers = {
        dj.SGD: lambda p, o: torch.optim.SGD(p, o.lr, momentum=o.momentum, nesterov=o.nesterov),
        dj.Adam: lambda p, o: torch.optim.Adam(p, o.lr, o.betas, o.eps),
        dj.AdamW: lambda p, o: torch.optim.AdamW(
            p, o.lr, o.betas, o.eps, weight_decay=o.weight_decay
        ),
        dj.RAdam: lambda p, o: torch.optim.RAdam(p, o.lr, o.betas, o.eps),
        dj.RMSProp: lambda p, o: torch.optim.RMSprop(p, o.lr, o.alpha, o.eps, momentum=o.momentum),
        dj.Adagrad: lambda p, o: torch.optim.Adagrad(p, o.lr, eps=o.eps),
        dj.Rprop: lambda p, o: torch.optim.Rprop(p, o.lr, o.etas, o.step_sizes),
    }
    gradients = np.random.default_rng(0).normal(size=(20, 50))
    for optimizer in OPTIMIZERS:
        if type(optimizer) not in makers:
            continue
        theta = np.linspace(-1, 1, 50)
        theirs = torch.tensor(theta.copy(), requires_grad=True)
        stepper = makers[type(optimizer)]([theirs], optimizer)
        rule = optimizer.rule(50, np.dtype("float64"))
        for grad in gradients:
            theirs.grad = torch.tensor(grad)
            stepper.step()
            dj.kernels.update(rule, theta, grad.copy())
        np.testing.assert_allclose(
            theta, theirs.detach().numpy(), rtol=1e-12, err_msg=repr(optimizer)
        )


def test_radam_is_pytorchs():
    """Values of PyTorch 2.13, of twelve steps, seven of which trust the mean of squares."""
    theta = np.array([0.5, -1.25, 2.0])
    rule = dj.RAdam(0.1, betas=(0.8, 0.9), eps=1e-3).rule(3, np.dtype("float64"))
    for _ in range(12):
        dj.kernels.update(rule, theta, theta * [1, 3, 0.2] + np.cos(theta))
    expected = [-0.4107868772302827, -0.19076670645626337, 2.301458468718912]
    np.testing.assert_allclose(theta, expected, rtol=1e-13)


def test_fit_with_weights_skips_what_weighs_nothing():
    net, X, Y = make_case([3, 5, 2], "tanh", "identity", "squared_error", "float64", 12)
    twin, _, _ = make_case([3, 5, 2], "tanh", "identity", "squared_error", "float64", 12)
    weights = np.array([1, 2, 3, 4, 0, 0, 0, 0, 1, 0, 2, 5.0])
    optimizer = dj.SGD(0.1, momentum=0.5)
    net.fit(X, Y, epochs=1, batch_size=4, optimizer=optimizer, sample_weight=weights, shuffle=False)
    batches = [np.arange(4), np.arange(8, 12)]  # the middle one has no weight: no step
    reference_fit(twin, X, Y, optimizer, batches, weights)
    np.testing.assert_allclose(net.theta, twin.theta, rtol=1e-12)


def test_history_losses():
    net, X, Y = make_case([3, 5, 2], "tanh", "identity", "squared_error", "float64", 20, l2=0.1)
    before = net.loss(X, Y)
    w = np.arange(1.0, 6)
    validation = (X[:5], Y[:5], w)
    history = net.fit(X, Y, epochs=4, batch_size=20, validation_data=validation)
    assert history.loss[0] == pytest.approx(before, rel=1e-12)
    assert history.loss == sorted(history.loss, reverse=True)
    assert history.val_loss[-1] == pytest.approx(net.loss(X[:5], Y[:5], w), rel=1e-12)
    assert len(history.val_loss) == 4
    assert all(t > 0 for t in history.time)
    assert net.fit(X, Y, epochs=0).loss == []


def test_seeds_decide_the_bits():
    X, Y = np.random.default_rng(0).normal(size=(2, 50, 3))
    thetas = []
    for rng in (1, 1, 2):
        net = dj.Network([3, 8, 3], rng=0)
        net.fit(X, Y, epochs=3, rng=rng)
        thetas.append(net.theta.tobytes())
    assert thetas[0] == thetas[1] != thetas[2]


def test_network_goes_on_with_its_own_generator():
    X, Y = np.random.default_rng(0).normal(size=(2, 50, 3))
    first, second = dj.Network([3, 8, 3], rng=3), dj.Network([3, 8, 3], rng=3)
    optimizer = dj.SGD(0.1)
    first.fit(X, Y, epochs=4, optimizer=optimizer)
    second.fit(X, Y, epochs=2, optimizer=optimizer)
    second.fit(X, Y, epochs=2, optimizer=optimizer)
    np.testing.assert_array_equal(first.theta, second.theta)


def test_chunks_do_not_change_the_bits(monkeypatch):
    X, Y = np.random.default_rng(0).normal(size=(2, 50, 3))
    thetas = []
    for chunk in (1, 1e9):
        monkeypatch.setattr("deltajit.training.loop.CHUNK", chunk)
        net = dj.Network([3, 8, 3], rng=0)
        history = net.fit(X, Y, epochs=3, batch_size=8)
        thetas.append((net.theta.tobytes(), round(history.loss[-1], 12)))
    assert thetas[0] == thetas[1]


def test_xor_is_learnt_by_2_2_1():
    X = np.array(list(itertools.product([0, 1], repeat=2)))
    Y = X[:, 0] ^ X[:, 1]
    net = dj.Network([2, 2, 1], output="sigmoid", rng=1, dtype="float64")
    history = net.fit(X, Y, epochs=2000, batch_size=4, optimizer=dj.Adam(0.05))
    np.testing.assert_array_equal(net.predict(X)[:, 0] > 0.5, Y)
    assert history.loss[-1] < 0.02 < history.loss[0]


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "leaky_relu"])
def test_training_lowers_the_loss(activation, digits):
    net = dj.Network([64, 32, 10], activation, output="softmax")
    history = net.fit(digits.X, digits.Y, epochs=10, optimizer=dj.Adam(3e-3))
    assert history.loss[-1] < history.loss[0] / 5
    accuracy = (net.predict(digits.X_test).argmax(axis=1) == digits.Y_test).mean()
    assert accuracy > 0.93


def test_optimizers_check_their_arguments():
    for make, message in [
        (lambda: dj.SGD(0), "lr must be greater than 0"),
        (lambda: dj.SGD(-1), "lr must be a finite number from 0"),
        (lambda: dj.SGD(0.1, momentum=1), "momentum must be less than 1"),
        (lambda: dj.SGD(0.1, nesterov=True), "nesterov=True needs momentum > 0"),
        (lambda: dj.Adam(betas=(0.9,)), "betas must be two numbers"),
        (lambda: dj.Adam(betas=(0.9, 1.0)), r"betas\[1\] must be less than 1"),
        (lambda: dj.Adam(eps=0), "eps must be greater than 0"),
        (lambda: dj.AdamW(weight_decay=-1), "weight_decay must be a finite number from 0"),
        (lambda: dj.RMSProp(alpha=1), "alpha must be less than 1"),
        (lambda: dj.Rprop(etas=(1.2, 0.5)), "etas must be 0 < etas"),
        (lambda: dj.Rprop(step_sizes=(1, 0.5)), "step_sizes must be 0 < step_sizes"),
        (lambda: dj.Lion(betas=(0.9, 2)), r"betas\[1\] must be"),
        (lambda: dj.schedules.StepDecay(0), "every must be >= 1"),
        (lambda: dj.schedules.ExponentialDecay(0), "factor must be greater than 0"),
        (lambda: dj.schedules.CosineDecay(floor=1), "floor must be less than 1"),
        (lambda: dj.schedules.OneCycle(start=0.5), "start must be a finite number from 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
    assert repr(dj.SGD(0.1, momentum=0.9)) == "SGD(lr=0.1, momentum=0.9, nesterov=False)"


def test_bar_is_shown_only_on_a_terminal(capsys):
    net, X, Y = make_case([3, 2], "tanh", "identity", "squared_error", "float32")
    net.fit(X, Y, epochs=2)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_clipping_of_gradients_whose_squares_float32_has_not():
    net = dj.Network([1, 1], "identity", dtype="float32", rng=0)
    before = net.theta.copy()
    net.fit([[1e12]], [[1e12]], 1, optimizer=dj.SGD(1.0), clip_norm=2.0, progress=False)
    assert np.linalg.norm(net.theta - before) == pytest.approx(2, rel=1e-6)
