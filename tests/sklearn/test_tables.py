"""Estimators on tables: categories, missing values, data frames; and the network behind them."""

import ctypes
import json
import pickle

import numpy as np
import pytest

import deltajit as dj
from deltajit import plot
from deltajit.sklearn import MLPClassifier, MLPRegressor
from tests.io.test_c import compiled

pd = pytest.importorskip("pandas")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

rng = np.random.default_rng(0)
N = 300
CITIES = np.array(["Ulm", "Bonn", "Köln", "Kiel"])
codes = rng.integers(4, size=N)
age = rng.normal(40, 10, size=N)
size = rng.normal(size=N)
y = np.array([3.0, -2, 0, 1])[codes] + age / 10 - size
FRAME = pd.DataFrame({"age": age, "city": CITIES[codes], "size": size})
HOLES = FRAME.mask(rng.random((N, 3)) < 0.1)
OPTIONS = {"hidden_layer_sizes": (16,), "solver": "lbfgs", "max_iter": 60, "random_state": 0}


def model(make=MLPRegressor, **options):
    return make(**{"standardize": True, **OPTIONS, **options})


def test_categories_are_columns_of_0_and_1():
    fitted = model().fit(FRAME, y)
    columns = np.column_stack([age, size, *(CITIES[codes] == name for name in sorted(CITIES))])
    np.testing.assert_array_equal(fitted.encode(FRAME), columns)
    names = ("age", "size", *(f"city={name}" for name in sorted(CITIES)))
    assert fitted.to_network().input_names == names
    assert fitted.n_features_in_ == 3
    assert fitted.score(FRAME, y) > 0.99


@pytest.mark.parametrize(
    "kind", ["category", "object", "codes", "array of codes", "mixed", "list", "polars", "enum"]
)
def test_tables_of_all_kinds_give_the_same(kind):
    expected = model().fit(FRAME, y).predict(FRAME)
    X, options, rank = FRAME, {}, np.argsort(np.argsort(CITIES))
    if kind in ("category", "object"):
        X = FRAME.astype({"city": kind})
    elif "codes" in kind:
        X = FRAME.assign(city=rank[codes])
        options = {"categorical_features": ["city"]}
        if "array" in kind:
            X, options = X.to_numpy(), {"categorical_features": [False, True, False]}
    elif kind in ("mixed", "list"):
        X, options = FRAME.to_numpy(object), {"categorical_features": [1]}
        X = X if kind == "mixed" else X.tolist()
    else:
        pl = pytest.importorskip("polars")
        X = pl.DataFrame(FRAME.to_dict("list"))
        if kind == "enum":
            X = X.with_columns(pl.col("city").cast(pl.Enum(CITIES.tolist())))
    np.testing.assert_array_equal(model(**options).fit(X, y).predict(X), expected)


@pytest.mark.parametrize("kind", ["string", "large_string", "dictionary"])
def test_columns_of_arrow_are_of_text(kind):
    arrow = pytest.importorskip("pyarrow")
    text = arrow.dictionary(arrow.int32(), arrow.string())
    if kind != "dictionary":
        text = getattr(arrow, kind)()
    X = FRAME.astype({"age": pd.ArrowDtype(arrow.float64()), "city": pd.ArrowDtype(text)})
    np.testing.assert_array_equal(model().fit(X, y).encode(X), model().fit(FRAME, y).encode(FRAME))


@pytest.mark.parametrize("kind", ["pandas", "nullable", "array", "polars"])
def test_missing_values_are_indicated(kind):
    X, options = HOLES, {}
    if kind == "nullable":
        X = HOLES.astype({"age": "Float64", "city": "string"})
    elif kind == "array":
        X, options = HOLES.to_numpy(object), {"categorical_features": [1]}
    elif kind == "polars":
        pl = pytest.importorskip("polars")
        X = pl.DataFrame(HOLES.astype(object).where(HOLES.notna(), None).to_dict("list"))
    fitted = model(missing="indicator", **options).fit(X, y)
    encoded = fitted.encode(X)
    for k, name in enumerate(["age", "size"]):
        missing = HOLES[name].isna().to_numpy()
        filled = HOLES[name].fillna(HOLES[name].mean())
        np.testing.assert_allclose(encoded[:, k], filled, rtol=1e-14)
        np.testing.assert_array_equal(encoded[:, 2 + k], missing)
    np.testing.assert_array_equal(encoded[:, -1], HOLES["city"].isna())
    np.testing.assert_array_equal(encoded[:, 4:].sum(axis=1), 1)
    assert fitted.score(X, y) > 0.6


def test_missing_values_are_refused_unless_asked_for():
    for columns, message in [(["age"], "NaN"), (["city"], "'city' of X has missing values")]:
        X = FRAME.assign(**{name: HOLES[name] for name in columns})
        with pytest.raises(ValueError, match=message):
            model().fit(X, y)
        fitted = model().fit(FRAME, y)
        with pytest.raises(ValueError, match=r"NaN|'city' of X has a missing value"):
            fitted.predict(X)
    with pytest.raises(ValueError, match="NaN"):
        MLPRegressor().fit(HOLES[["age", "size"]], y)


def test_unknown_categories():
    X = FRAME.assign(city=np.where(np.arange(N) == 7, "Rome", FRAME["city"]))
    with pytest.raises(ValueError, match=r"'city' of X has a missing .* first in row 7"):
        model().fit(FRAME, y).predict(X)
    encoded = model(missing="indicator").fit(FRAME, y).encode(X)
    assert not encoded[7, 2:].any()


def test_float32_stays_and_inf_is_refused():
    X = HOLES.astype({"age": "float32", "size": "float32"})
    fitted = model(missing="indicator", embedding_size=2).fit(X, y)
    assert fitted.encode(X).dtype == fitted.coefs_[0].dtype == fitted.predict(X).dtype == np.float32
    with pytest.raises(ValueError, match="infinity"):
        fitted.predict(X.assign(age=np.inf))


def test_scales_are_of_numbers_only():
    fitted = model(missing="indicator").fit(HOLES, y)
    assert (fitted.standardizer_.scale_[2:] == 1).all()
    assert (fitted.standardizer_.mean_[:2] != 0).all()
    assert (fitted.standardizer_.mean_[2:] == 0).all()


@pytest.mark.parametrize("solver", ["lbfgs", "sgd", "adam"])
def test_embeddings_are_the_only_free_weights_of_their_layer(solver):
    options = {"embedding_size": 2, "missing": "indicator", "dropout": 0.2 * (solver != "lbfgs")}
    options |= {"learning_rate_init": 0.01, "early_stopping": True}
    fitted = model(solver=solver, **options).fit(HOLES, y)
    W, b = fitted.coefs_[0].T, fitted.intercepts_[0]
    assert W.shape == (4 + 2, 4 + 5)
    np.testing.assert_array_equal(W[:4], np.eye(4, 9))
    np.testing.assert_array_equal(W[4:, :4], 0)
    np.testing.assert_array_equal(b, 0)
    assert (W[4:, 4:] != 0).all()
    assert fitted.score(HOLES, y) > 0.5


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
@pytest.mark.parametrize("targets", [1, 2])
def test_a_loss_has_the_penalty_of_free_weights(solver, targets):
    Y = np.column_stack([y, -y]) if targets == 2 else y
    options = {"alpha": 2.0, "l1": 0.5, "learning_rate_init": 1e-12, "standardize_target": False}
    options |= {"max_iter": 1, "batch_size": 100}  # so short steps that theta stays
    fitted = model(solver=solver, embedding_size=2, **options).fit(FRAME, Y)
    W = np.concatenate([fitted.coefs_[0][:, 2:].ravel(), *map(np.ravel, fitted.coefs_[1:])])
    weight = N if solver == "lbfgs" else 100
    errors = fitted.predict(FRAME).reshape(Y.shape) - Y
    expected = (errors**2).mean() / 2 + (W @ W + 0.5 * abs(W).sum()) / weight
    assert fitted.loss_ == pytest.approx(expected, rel=1e-9)


def test_two_columns_have_embeddings_of_their_own():
    X = FRAME.assign(colour=np.array(["red", "blue"])[codes % 2])
    W = model(embedding_size=3).fit(X, y).coefs_[0].T
    assert W.shape == (2 + 6, 2 + 4 + 2)
    assert (W[2:5, 2:6] != 0).all()
    assert (W[5:, 6:] != 0).all()
    assert not W[2:5, 6:].any()
    assert not W[5:, 2:6].any()


@pytest.mark.parametrize("make", [MLPRegressor, MLPClassifier])
def test_files_and_other_tools_take_encoded_tables(make, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    fitted = model(make, embedding_size=2, missing="indicator", activation="tanh")
    fitted.fit(HOLES, y if make is MLPRegressor else y > 4)
    encoded = fitted.encode(HOLES)
    expected = fitted.predict(HOLES) if make is MLPRegressor else fitted.predict_proba(HOLES)[:, 1]
    fitted.save(tmp_path / "it.safetensors")
    net = dj.load(tmp_path / "it.safetensors")
    np.testing.assert_allclose(net.predict(encoded)[:, 0], expected, rtol=1e-9)
    assert net.input_names[2:4] == ("age is missing", "size is missing")
    assert net.input_names[-1] == "city is missing"
    fitted.to_onnx(tmp_path / "it.onnx")
    session = runtime.InferenceSession(tmp_path / "it.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"X": encoded})[0][:, 0], expected, rtol=1e-9)
    metadata = {p.key: p.value for p in onnx.load(tmp_path / "it.onnx").metadata_props}
    assert json.loads(metadata["input_names"]) == list(net.input_names)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict(HOLES), fitted.predict(HOLES))


def test_c_has_the_names_of_inputs(tmp_path):
    fitted = model().fit(FRAME, y)
    fitted.to_c(tmp_path / "table.h")
    library = compiled(
        '#include "table.h"\nconst char *const names[] = TABLE_INPUTS;\n'
        "const char *name(int i) { return names[i]; }\n"
        "void run(const double *x, double *out) { table_predict(x, out); }\n",
        tmp_path,
    )
    library.name.restype = ctypes.c_char_p
    names = tuple(library.name(i).decode() for i in range(6))
    assert names == fitted.to_network().input_names
    x, out = fitted.encode(FRAME)[0], np.empty(1)
    library.run(x.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p))
    np.testing.assert_allclose(out[0], fitted.predict(FRAME)[0], rtol=1e-9)


def test_a_graph_has_the_names_of_inputs():
    texts = plot.graph(model().fit(FRAME, y)).texts
    assert {"age", "city=Ulm"} <= {text.get_text() for text in texts}


def test_gradients_are_by_features():
    fitted = model(embedding_size=2, activation="tanh").fit(FRAME, y)
    slopes, step = fitted.input_gradients(FRAME), 1e-4
    moved = (fitted.predict(FRAME.assign(age=age + step)) - fitted.predict(FRAME)) / step
    np.testing.assert_allclose(slopes[:, 0], moved, rtol=1e-3, atol=1e-3)
    assert np.isnan(slopes[:, 1]).all()
    assert np.isfinite(slopes[:, 2]).all()


def test_a_table_that_is_monotone_in_a_column():
    fitted = model(embedding_size=2, monotonic_cst={"size": 1}, missing="indicator").fit(HOLES, -y)
    assert (fitted.input_gradients(HOLES)[:, 2] >= 0).all()
    opposite = fitted.set_params(monotonic_cst=[0, 0, -1]).fit(HOLES, -y)
    low = opposite.predict(FRAME) - opposite.predict(FRAME.assign(size=size + 1))
    assert low.min() >= 0
    with pytest.raises(ValueError, match="monotonic_cst must be 0 for columns of categories"):
        model(monotonic_cst={"city": 1}).fit(FRAME, y)


def test_validation_and_intervals():
    options = {"solver": "adam", "learning_rate_init": 0.01, "early_stopping": True}
    fitted = model(embedding_size=2, **options)
    fitted.fit(FRAME[:200], y[:200], X_val=FRAME[200:], y_val=y[200:])
    score = fitted.score(FRAME[200:], y[200:])
    assert fitted.best_validation_score_ == pytest.approx(score)
    low, high = fitted.predict_interval(FRAME, data=(FRAME[200:], y[200:]))
    assert ((low < y) & (y < high)).mean() > 0.8
    for method, message in [("laplace", "knows no bounds"), ("ensemble", "numbers only")]:
        with pytest.raises(ValueError, match=message):
            fitted.predict_interval(FRAME, data=(FRAME, y), method=method)
    with pytest.raises(ValueError, match="X_val: the column 'city'"):
        fitted.fit(FRAME, y, X_val=FRAME.assign(city="Rome"), y_val=y)


def test_training_goes_on_with_the_same_columns():
    fitted = model(solver="adam", embedding_size=2)
    for part in range(3):
        fitted.partial_fit(FRAME[part * 100 :][:100], y[part * 100 :][:100])
    assert fitted.t_ == N
    with pytest.raises(ValueError, match="feature names"):
        fitted.partial_fit(FRAME.rename(columns={"city": "town"}), y)


def test_a_fit_that_fails_changes_nothing():
    fitted = model(embedding_size=2).fit(FRAME, y)
    before, others = fitted.predict(FRAME), FRAME.assign(age=0.0, city=CITIES[::-1][codes])
    with pytest.raises(ValueError, match="y contains NaN"):
        fitted.fit(others, np.full(N, np.nan))
    with pytest.raises(ValueError, match="monotonic_cst"):
        fitted.set_params(monotonic_cst=2).fit(others[["city"]], y)
    np.testing.assert_array_equal(fitted.predict(FRAME), before)


def test_ctrl_c_while_samples_are_checked_changes_nothing(monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    fitted = model().fit(FRAME, y)
    before = fitted.predict(FRAME)
    monkeypatch.setattr("deltajit.sklearn.base.bounds_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fitted.fit(FRAME.assign(age=0.0, city=CITIES[::-1][codes]), y)
    np.testing.assert_array_equal(fitted.predict(FRAME), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"categorical_features": "all"}, "categorical_features must be one of 'from_dtype'"),
        ({"categorical_features": "all", "missing": "indicator"}, "categorical_features must be"),
        ({"categorical_features": ["town"]}, "categorical_features must list columns of X"),
        ({"categorical_features": [3]}, "categorical_features must list columns of X"),
        ({"categorical_features": [True]}, "categorical_features must list columns of X"),
        ({"categorical_features": None}, "could not convert string to float"),
        ({"embedding_size": 0}, "embedding_size"),
        ({"missing": "drop"}, "missing must be"),
    ],
)
def test_wrong_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        model(**options).fit(FRAME, y)


def test_what_is_no_table():
    from scipy.sparse import csr_array

    with pytest.raises(ValueError, match="Reshape your data"):
        model(categorical_features=[0]).fit(["a", "b"], [1, 2])
    with pytest.raises(TypeError, match="X is sparse"):
        model(missing="indicator", standardize=False).fit(csr_array(np.eye(3)), [1, 2, 3])
    many = FRAME.loc[np.arange(1500) % N].assign(city=[f"{k}" for k in range(1500)])
    with pytest.raises(ValueError, match="'city' of X has 1500 categories, and may have 1000"):
        model().fit(many, np.zeros(1500))


@pytest.mark.parametrize(
    ("names", "error"), [("ab", TypeError), (["a"], ValueError), (["a", "a"], ValueError)]
)
def test_wrong_names_of_inputs(names, error):
    with pytest.raises(error, match="input_names must be"):
        dj.Network([2, 1], input_names=names)
