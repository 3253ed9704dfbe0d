"""Fitted estimators in files, other tools and pictures: scales folded in, names of classes kept."""

import ctypes
import json

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError

import deltajit as dj
from deltajit import plot
from deltajit.sklearn import MLPClassifier, MLPRegressor
from tests.io.test_c import compiled

pytestmark = pytest.mark.filterwarnings("ignore:.*Maximum", "ignore:lbfgs failed")

X, labels = load_iris(return_X_y=True)
X = X * 10 + 100
NAMES = np.array(["setosa", 'versi"color', "Dürer?"])
MODELS = {
    "classes": (MLPClassifier, NAMES[labels]),
    "two": (MLPClassifier, labels == 2),
    "number": (MLPRegressor, 1e4 * X[:, 0] + X[:, 1] ** 2),
    "numbers": (MLPRegressor, 1e4 * X[:, :2] + 3),
}


def fitted(name, **options):
    make, y = MODELS[name]
    options = {"standardize": True, "random_state": 0, "max_iter": 20, **options}
    return make(hidden_layer_sizes=(8, 6), activation="tanh", **options).fit(X, y)


def outputs(model):
    if not hasattr(model, "classes_"):
        return model.predict(X).reshape(len(X), -1)
    p = model.predict_proba(X)
    return p[:, 1:] if p.shape[1] == 2 else p


@pytest.fixture
def ax():
    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    return figure.subplots()


@pytest.mark.parametrize("name", MODELS)
def test_files_predict_the_same(name, tmp_path):
    model = fitted(name)
    model.save(tmp_path / "it.safetensors")
    net = dj.load(tmp_path / "it.safetensors")
    np.testing.assert_allclose(net.predict(X), outputs(model), rtol=1e-9)
    names = {"classes": tuple(sorted(NAMES)), "two": ("False", "True")}
    assert net.class_names == model.to_network().class_names == names.get(name)
    if name != "numbers":
        score = net.score(
            X,
            np.searchsorted(sorted(NAMES), MODELS[name][1])
            if name == "classes"
            else MODELS[name][1],
        )
        assert score == pytest.approx(model.score(X, MODELS[name][1]))


@pytest.mark.parametrize("name", MODELS)
def test_pytorch_computes_the_same(name):
    torch, model = pytest.importorskip("torch"), fitted(name)
    with torch.no_grad():
        found = model.to_torch()(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(found, outputs(model), rtol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_onnx_runtime_computes_the_same(name, tmp_path):
    model = fitted(name)
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    model.to_onnx(tmp_path / "it.onnx")
    session = runtime.InferenceSession(tmp_path / "it.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"X": X})[0], outputs(model), rtol=1e-9)
    metadata = {p.key: p.value for p in onnx.load(tmp_path / "it.onnx").metadata_props}
    if name == "classes":
        assert json.loads(metadata["class_names"]) == sorted(NAMES)


def test_c_has_the_names(tmp_path):
    fitted("classes").to_c(tmp_path / "iris.h")
    library = compiled(
        '#include "iris.h"\nconst char *const names[] = IRIS_CLASSES;\n'
        "const char *name(int i) { return names[i]; }\n"
        "void run(const double *x, double *out) { iris_predict(x, out); }\n",
        tmp_path,
    )
    library.name.restype = ctypes.c_char_p
    assert [library.name(i).decode() for i in range(3)] == sorted(NAMES)


@pytest.mark.parametrize("method", ["to_network", "save", "to_c", "to_onnx", "to_torch"])
def test_an_estimator_that_is_not_fitted_has_none(method, tmp_path):
    arguments = (tmp_path / "it",) if method in ("save", "to_c", "to_onnx") else ()
    with pytest.raises(NotFittedError):
        getattr(MLPClassifier(), method)(*arguments)
    assert not list(tmp_path.iterdir())


def test_decision_regions_have_the_names_of_classes(ax):
    y = NAMES[labels]
    model = MLPClassifier(8, standardize=True, max_iter=5).fit(X[:, :2], y)
    plot.decision_regions(model, X[:, :2], y, resolution=20, ax=ax)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == sorted(NAMES)
    assert [len(c.get_offsets()) for c in ax.collections][-3:] == [50, 50, 50]
    with pytest.raises(ValueError, match=r"Y has .*'other'.*, which is none of the classes"):
        plot.decision_regions(model, X[:, :2], ["other"] * len(X), ax=ax)


def test_a_networks_own_names_are_in_the_legend(ax):
    net = dj.Network([2, 1], output="sigmoid", class_names=["no", "yes"])
    plot.decision_regions(net, X[:, :2], labels == 1, resolution=20, ax=ax)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["no", "yes"]


def test_pictures_of_estimators(ax):
    model = fitted("classes")
    for draw in (plot.weight_histograms, plot.graph):
        draw(model, ax=ax)
    ax.clear()
    plot.gradient_histograms(model, X, NAMES[labels], ax=ax)
    ax.clear()
    plot.history(fitted("number", early_stopping=True), ax=ax)
    assert len(ax.lines) == 3  # two curves, and the best epoch
    ax.clear()
    model = fitted("number")
    plot.regression(model, X, MODELS["number"][1], ax=ax)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), model.predict(X), rtol=1e-9)


def test_a_graph_has_the_names_of_features_and_classes(ax):
    frame = pytest.importorskip("pandas").DataFrame(X, columns=list("abcd"))
    model = MLPClassifier(3, max_iter=2).fit(frame, NAMES[labels])
    plot.graph(model, ax=ax)
    assert {*"abcd", *NAMES} <= {text.get_text() for text in ax.texts}


@pytest.mark.parametrize(
    ("names", "error"),
    [("ab", TypeError), (["a", 1], TypeError), (["a"], ValueError), (["a", "a"], ValueError)],
)
def test_wrong_names_of_classes(names, error):
    with pytest.raises(error, match="class_names must be"):
        dj.Network([3, 2], output="softmax", class_names=names)
