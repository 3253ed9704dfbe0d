"""What users of other libraries type: the error says what it is called here."""

import inspect
import pickle

import numpy as np
import pytest
from deltajit.kernels import hints

import deltajit as dj
from deltajit import kernels

NAMES = [
    ("activation", "swish", "silu"), ("activation", "ReLU", "relu"),
    ("activation", "linear", "identity"), ("activation", "logistic", "sigmoid"),
    ("activation", "LeakyReLU", "leaky_relu"), ("activation", "tahn", "tanh"),
    ("output", "linear", "identity"), ("output", "Softmax", "softmax"),
    ("loss", "mse", "squared_error"), ("loss", "MAE", "absolute_error"),
    ("loss", "bce", "binary_cross_entropy"), ("loss", "nll", "cross_entropy"),
    ("loss", "CrossEntropy", "cross_entropy"), ("loss", "cross-entropy", "cross_entropy"),
    ("loss", "focal_loss", "focal"), ("loss", "sigmoid_focal_loss", "binary_focal"),
    ("init", "xavier", "glorot"), ("init", "kaiming", "he"),
]  # fmt: skip


@pytest.mark.parametrize(("argument", "given", "meant"), NAMES)
def test_names_of_other_libraries(argument, given, meant):
    with pytest.raises(ValueError, match=f"^{argument}={given!r} .* did you mean {meant!r}"):
        dj.Network([2, 3, 2], **{argument: given})


ARGUMENTS = [
    (lambda: dj.Network([2, 1], seed=1), r"Network.__init__ .* 'seed'; did you mean rng"),
    (lambda: dj.Network([2, 1], random_state=1), "did you mean rng"),
    (lambda: dj.Network([2, 1], n_jobs=1), "did you mean threads"),
    (lambda: dj.Network([2, 1], actvation="tanh"), "did you mean activation"),
    (lambda: dj.Ensemble([2, 1], 2, seed=1), r"Ensemble.__init__ .* did you mean rng"),
    (lambda: dj.Network([2, 1]).fit([[1, 2]], [1], verbose=1), r"Network.fit .* mean progress"),
    (lambda: dj.Network([2, 1]).fit([[1, 2]], [1], lr=1), r"optimizer=dj.Adam\(lr=1e-3\)"),
    (lambda: dj.Network([2, 1]).fit([[1, 2]], [1], learning_rate=1), "optimizer=dj.Adam"),
    (lambda: dj.Network([2, 1]).fit([[1, 2]], [1], n_epochs=1), "did you mean epochs"),
    (lambda: dj.Network([2, 1]).fit([[1, 2]], [1], accumulate_grad_batches=2), "mean batch_size"),
    (lambda: dj.Adam(learning_rate=1), r"Adam.__init__ .* did you mean lr"),
    (lambda: dj.Adam(qqq=1), "has no argument 'qqq'$"),
]


@pytest.mark.parametrize(("call", "message"), ARGUMENTS)
def test_arguments_of_other_libraries(call, message):
    with pytest.raises(TypeError, match=message):
        call()


VALUES = [
    (lambda net: net.fit([[1, 2]], [1], optimizer="adam"), "did you mean optimizer=dj.Adam()"),
    (lambda net: net.fit([[1, 2]], [1], optimizer=dj.SGD), "did you mean optimizer=dj.SGD()"),
    (lambda net: net.fit([[1, 2]], [1], optimizer="lbfgs"), "did you mean optimizer=dj.LBFGS()"),
    (lambda net: net.fit([[1, 2]], [1], optimizer=3), "must be one such as"),
    (lambda net: dj.Network([2, 1], loss=lambda a, y: (a - y) ** 2), "dj.Circuit(f, 2)"),
    (lambda net: dj.Network([2, 3, 1], activation=np.tanh), "dj.register_activation"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), VALUES)
def test_values_of_other_types(call, message):
    with pytest.raises(TypeError) as caught:
        call(dj.Network([2, 1]))
    assert message in str(caught.value)


def test_sparse_samples_are_named():
    sparse = pytest.importorskip("scipy.sparse")
    net, X = dj.Network([3, 1]), sparse.csr_matrix(np.eye(3))
    for call in (net.predict, lambda X: net.loss(X, np.ones(3)), lambda X: net.loss(np.eye(3), X)):
        with pytest.raises(TypeError, match=r"^[XY] is sparse; pass [XY].toarray\(\)"):
            call(X)


def test_every_hint_leads_somewhere():
    """To a name that some function here takes."""
    doors = [dj.Network, dj.Network.fit, dj.Adam]
    known = {*kernels.ACTIVATIONS, *kernels.LOSSES, "he", "glorot"}
    known.update(*(inspect.signature(door).parameters for door in doors))
    for name, meanings in hints.ELSEWHERE.items():
        assert name == name.lower()
        assert known.issuperset(meanings), name
    assert known.issuperset(hints.VALUES)


def test_hinted_functions_keep_their_signatures():
    assert next(iter(inspect.signature(dj.Adam).parameters)) == "lr"
    assert "progress" in inspect.signature(dj.Network.fit).parameters
    assert pickle.loads(pickle.dumps(dj.Adam(0.5))) == dj.Adam(0.5)


def test_small_workspace_says_which_order():
    net = dj.Network([3, 8, 2])
    X, out = np.ones((4, 3), np.float32), np.ones((4, 2, 3), np.float32)
    with pytest.raises(ValueError, match=r"net.workspace\(batch, order=2\)"):
        kernels.jacobian(net.model, X, out, net.workspace(4))
    with pytest.raises(ValueError, match=r"net.workspace\(batch\)"):
        kernels.predict(net.model, X, out[:, :, 0].copy(), net.workspace(4)[:3].copy())
