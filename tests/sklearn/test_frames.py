"""Data frames: columns that convert to numbers without loss are taken, others are named."""

import numpy as np
import pytest

import deltajit as dj
from tests.helpers import processes
from tests.helpers.networks import DTYPES

pd = pytest.importorskip("pandas")

VALUES = np.array([[1, 0, 3], [0, 1, 2], [1, 1, 1], [0, 0, 7]])


def net(dtype="float32", **options):
    return dj.Network([3, 4, 2], dtype=dtype, **options)


# Of the first two columns, which hold 0 and 1; the third is float64.
KINDS = [
    "bool", "int8", "uint64", "float16", "float32", "boolean", "Int64", "UInt8", "Float32",
    "Float64", "Sparse[float]", "Sparse[bool]", "category",
]  # fmt: skip
ARROWS = ["bool[pyarrow]", "int32[pyarrow]", "uint64[pyarrow]", "float[pyarrow]", "double[pyarrow]"]


def frame(kind, last="float64"):
    columns = pd.DataFrame(VALUES, columns=["a", "b", "c"])
    return columns.astype({"a": kind, "b": kind, "c": last})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS + ARROWS)
def test_columns_of_numbers(kind, dtype):
    if kind in ARROWS:
        pytest.importorskip("pyarrow")
    model = net(dtype)
    X, Y = VALUES.astype(dtype), VALUES[:, :2].astype(dtype)
    data = frame(kind)
    np.testing.assert_array_equal(model.predict(data), model.predict(X))
    np.testing.assert_array_equal(model.grad(X, data[["a", "b"]]), model.grad(X, Y))
    np.testing.assert_array_equal(model.grad(data, Y, data["a"]), model.grad(X, Y, Y[:, 0]))
    one = dj.Network([1, 2, 1], dtype=dtype)
    np.testing.assert_array_equal(one.grad(data[["a"]], data["b"]), one.grad(X[:, :1], X[:, 1:2]))
    for i in range(4):
        np.testing.assert_array_equal(model.predict(data.iloc[i]), model.predict(X[i]))
    fitted, expected = net(dtype), net(dtype)
    options = dict(epochs=2, progress=False, rng=0)
    seen = []
    metrics = {"kind": lambda Y, outputs: seen.append(Y.dtype.kind) or 0.0}
    fitted.fit(data, data[["b", "c"]], validation_data=(data, data[["b", "c"]]), metrics=metrics,
               **options)  # fmt: skip
    expected.fit(X, X[:, 1:], **options)
    np.testing.assert_array_equal(fitted.theta, expected.theta)
    assert set(seen) <= set("biuf")


def test_dummies_of_categories_beside_numbers():
    """get_dummies makes bools; other columns keep their dtype, and labels may occur twice."""
    data = pd.DataFrame({"city": ["x", "y", "x", "z"], "size": [1.5, 2, 3, 4], "n": [1, 2, 3, 4]})
    dummies = pd.get_dummies(data)
    assert {*map(str, dummies.dtypes)} == {"bool", "float64", "int64"}
    model = dj.Network([5, 4, 1])
    expected = model.predict(dummies.to_numpy(np.float32))
    np.testing.assert_array_equal(model.predict(dummies), expected)
    np.testing.assert_array_equal(model.predict(pd.get_dummies(data, sparse=True)), expected)
    dummies.columns = ["has_nulls", "dtype", "dtype", "iter_columns", ("a", 1)]
    np.testing.assert_array_equal(model.predict(dummies), expected)
    ensemble = dj.Ensemble([5, 4, 1], 2)
    assert ensemble.predict(dummies).shape == (2, 4, 1)


def test_labels_of_nullable_integers():
    model = dj.Network([3, 4, 2], loss="cross_entropy")
    labels = pd.Series([0, 1, 1, 0], dtype="Int64")
    assert model.loss(frame("Int64"), labels) == model.loss(VALUES, [0, 1, 1, 0])


def test_a_frame_of_one_dtype_is_not_copied_column_by_column(monkeypatch):
    from deltajit.model import checks

    monkeypatch.setattr(checks, "_column", None)
    net().predict(frame("float64"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["x", "y", "x", "y"], "the column 'b' of X must hold real numbers .*, got dtype"),
        (pd.Series(list("xyxy"), dtype="category"), "'b' of X must hold real .* dtype category"),
        (pd.to_datetime([1, 2, 3, 4]), "the column 'b' of X must .*, got dtype datetime64"),
        (pd.to_timedelta([1, 2, 3, 4]), "the column 'b' of X must .*, got dtype timedelta64"),
        ([1j, 2, 3, 4], "the column 'b' of X must .*, got dtype complex128"),
        ([True, None, False, 1.5], "the column 'b' of X must .*, got dtype object"),
        ([[1, 2], [3, 4], [5, 6], [7, 8]], "the column 'b' of X must .*, got dtype object"),
        (np.arange(4, dtype=np.longdouble), "the column 'b' of X must .*, got dtype"),
        (pd.array([1, None, 3, 4], "Int64"), "the column 'b' of X has missing values; fill"),
        (pd.array([1.5, None, 3, 4], "Float64"), "the column 'b' of X has missing values"),
        (pd.array([True, None, True, True], "boolean"), "the column 'b' of X has missing values"),
    ],
)
@pytest.mark.parametrize("others", ["float64", "bool", "object"])
def test_a_column_that_is_no_number_is_named(values, message, others):
    data = pd.DataFrame({"a": VALUES[:, 0], "b": values, "c": VALUES[:, 2]})
    data = data.astype({"a": others, "c": others})
    model = net()
    before = model.theta.copy()
    for call in (lambda: model.predict(data), lambda: model.fit(data, VALUES[:, :2])):
        with pytest.raises(TypeError, match=message):
            call()
    with pytest.raises(TypeError, match=message.replace("of X", r"of validation_data\[0\]")):
        model.fit(VALUES, VALUES[:, :2], validation_data=(data, VALUES[:, :2]))
    np.testing.assert_array_equal(model.theta, before)


def test_missing_targets_and_weights():
    model = dj.Network([3, 1])
    missing = pd.Series([1, None, 3, 4], dtype="Int64")
    with pytest.raises(TypeError, match="Y has missing values"):
        model.loss(VALUES, missing)
    with pytest.raises(TypeError, match="sample_weight has missing values"):
        model.loss(VALUES, VALUES[:, 0], missing)


def test_nan_is_a_value():
    data = frame("bool").assign(c=[1.0, np.nan, 2.0, 3.0])
    outputs = net().predict(data)
    assert np.isnan(outputs[1]).all()
    assert np.isfinite(outputs[[0, 2, 3]]).all()
    with pytest.raises(ValueError, match=r"X has NaN or inf \(as float32\), first at \[1, 2\]"):
        net().fit(data, VALUES[:, :2])


def test_polars():
    pl = pytest.importorskip("polars")
    data = pl.DataFrame({"a": [True, False, True, False], "b": [0, 1, 1, 0], "c": [3.0, 2, 1, 7]})
    model = net()
    expected = model.predict(VALUES.astype(np.float32))
    np.testing.assert_array_equal(model.predict(data), expected)
    one = dj.Network([3, 1])
    assert one.loss(data, data["a"]) == one.loss(VALUES, VALUES[:, 0])
    for name, values, message in [
        ("b", ["x"] * 4, "the column 'b' of X must hold real numbers .*, got dtype String"),
        ("a", [1, None, 2, 3], "the column 'a' of X has missing values"),
    ]:
        with pytest.raises(TypeError, match=message):
            model.predict(data.with_columns(pl.Series(name, values)))


def test_pyarrow_columns_that_are_no_numbers():
    pytest.importorskip("pyarrow")
    for kind, values in [
        ("string[pyarrow]", list("xyzw")),
        ("timestamp[ns][pyarrow]", pd.to_datetime([1, 2, 3, 4])),
    ]:
        data = frame("bool[pyarrow]").assign(b=pd.array(values, dtype=kind))
        with pytest.raises(TypeError, match="the column 'b' of X must hold real numbers"):
            net().predict(data)
    data = frame("bool[pyarrow]").assign(b=pd.array([1, None, 2, 3], dtype="int64[pyarrow]"))
    with pytest.raises(TypeError, match="the column 'b' of X has missing values"):
        net().predict(data)


def test_pandas_is_not_imported():
    code = (
        "import deltajit, sys; net = deltajit.Network([2, 1]); assert 'pandas' not in sys.modules"
    )
    processes.run("-c", code)
