"""What is drawn is what the network and its history say."""

import sys

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

import deltajit as dj
from deltajit import plot
from tests.helpers import processes

RNG = np.random.default_rng(0)
X1, X2, X3 = (RNG.normal(size=(40, n)) for n in (1, 2, 3))
LABELS = np.arange(40) % 3


@pytest.fixture
def ax():
    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    return figure.subplots()


@pytest.fixture
def agg():
    """Figures of pyplot without a screen."""
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    yield
    plt.close("all")


def network(*sizes, **options):
    """A network with biases that are not 0."""
    net = dj.Network(list(sizes), **options)
    net.theta += 0.1 * np.random.default_rng(1).normal(size=net.n_params)
    return net


def classifier(n_out=3):
    return network(2, 8, n_out, output="softmax" if n_out > 1 else "sigmoid")


def members():
    """Losses of an ensemble of 4, the last of which has stopped after the first epoch."""
    loss = [np.array([4.0, 2.0, 3.0, 9.0]), np.array([3.0, 1.0, 2.0, np.nan])]
    return dj.History(loss=loss, time=[0.1, 0.1])


def artists(ax, kind):
    return [artist for artist in ax.get_children() if isinstance(artist, kind)]


def drawn(ax):
    """Text that can be seen: labels, ticks, legends, of all Axes of the figure."""
    ax.figure.canvas.draw()
    for axes in ax.figure.axes:
        low, high = sorted(axes.get_xlim())
        ticks = [t.label1 for t in axes.xaxis.get_major_ticks() if low <= t.get_loc() <= high]
        low, high = sorted(axes.get_ylim())
        both = [axes.yaxis.label, axes.xaxis.label]
        for tick in axes.yaxis.get_major_ticks():
            if low <= tick.get_loc() <= high:
                ticks += [tick.label1, tick.label2]
        legend = axes.get_legend()
        inside = [axes.title, *axes.texts, *(legend.get_texts() if legend else ())]
        texts = ticks + both + inside
        yield from (text for text in texts if text.get_visible() and text.get_text().strip())


PICTURES = {
    "history": lambda ax: dj.History([3.0, 2.0], [4.0, 1.0]).plot(ax=ax),
    "log": lambda ax: dj.History([3.0, 2e-5]).plot(ax=ax, log=True),
    "members": lambda ax: members().plot(ax=ax),
    "regions": lambda ax: plot.decision_regions(classifier(), X2, LABELS, ax=ax),
    "many classes": lambda ax: plot.decision_regions(classifier(12), X2, LABELS, ax=ax),
    "curve": lambda ax: plot.regression(network(1, 8, 2), X1, np.hstack([X1, -X1]), ax=ax),
    "diagonal": lambda ax: plot.regression(network(3, 8, 1), X3, X3[:, 0], ax=ax),
    "weights": lambda ax: plot.weight_histograms(network(64, *[32] * 6, 10), ax=ax),
    "gradients": lambda ax: plot.gradient_histograms(
        network(3, *[32] * 4, 1, activation="relu"), X3 * [1, 1, 0], X3[:, 0], ax=ax
    ),
    "graph": lambda ax: plot.graph(network(784, 128, 64, 10, output="softmax"), ax=ax),
    "small graph": lambda ax: plot.graph(network(2, 3, 1), ax=ax),
}
CIRCUIT = dj.Circuit(lambda x, y: (x * y + x / y) * x - y, 2)
RATES = dj.learning_rate_finder(network(3, 8, 1), X3, X3[:, 0], batch_size=8)
MORE_PICTURES = {
    "rates": lambda ax: RATES.plot(ax),
    "circuit": lambda ax: plot.circuit(CIRCUIT.trace([1.5, 0.7]), ax=ax),
    "named graph": lambda ax: plot.graph(
        network(3, 8, 2), input_names=["mass", "height", "age"], output_names=["no", "yes"], ax=ax
    ),
}
DEEP = network(3, *[32] * 24, 1, activation="relu")
DEEP_PICTURES = {
    "weights": lambda: plot.weight_histograms(DEEP),
    "gradients": lambda: plot.gradient_histograms(DEEP, X3 * [1, 1, 0], X3[:, 0]),
    "graph": lambda: plot.graph(DEEP),
}


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
def test_is_drawn_where_asked_labelled_and_legible(picture, ax):
    assert picture(ax) is ax
    assert ax.get_xlabel()
    assert ax.get_ylabel()
    assert_legible(ax)


@pytest.mark.parametrize("size", [(6.4, 4.8), (14, 7)], ids=["640", "1400"])
@pytest.mark.parametrize("layout", [None, "constrained"])
@pytest.mark.parametrize("name", [*PICTURES, *MORE_PICTURES])
def test_is_legible_at_sizes_of_screens(name, layout, size):
    """On figures without a layout too, which make no room for labels."""
    figure = Figure(figsize=size, dpi=100, layout=layout)
    FigureCanvasAgg(figure)
    assert_legible((PICTURES | MORE_PICTURES)[name](figure.subplots()))


@pytest.mark.parametrize("picture", DEEP_PICTURES.values(), ids=DEEP_PICTURES)
def test_new_figure_has_room_for_all_layers(picture, agg):
    assert_legible(picture())


def assert_legible(ax):
    texts = [(text.get_text(), text.get_window_extent()) for text in drawn(ax)]
    assert len(texts) >= 4
    figure = ax.figure.bbox
    for i, (text, box) in enumerate(texts):
        for other, place in texts[:i]:
            assert not box.overlaps(place), (text, other)
        assert figure.x0 <= box.x0 < box.x1 <= figure.x1, text
        assert figure.y0 <= box.y0 < box.y1 <= figure.y1, text


def test_without_axes_a_new_figure_is_made(agg):
    first, second = (plot.weight_histograms(classifier()) for _ in range(2))
    assert first.figure is not second.figure
    assert first.figure.get_layout_engine() is not None


def test_deltajit_does_not_import_matplotlib():
    code = "import sys, deltajit; deltajit.plot.graph; assert 'matplotlib' not in sys.modules"
    processes.run("-c", code)


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'deltajit\[plot\]'"):
        plot.weight_histograms(classifier())


# -------------------------------------------------------------------- training


def test_history_of_a_fit(ax):
    net = classifier()
    history = net.fit(X2, LABELS, epochs=5, validation_data=(X2[:9], LABELS[:9]), progress=False)
    loss, val_loss, best = history.plot(ax=ax).lines
    assert list(loss.get_xdata()) == list(val_loss.get_xdata()) == [1, 2, 3, 4, 5]
    assert list(loss.get_ydata()) == history.loss
    assert list(val_loss.get_ydata()) == history.val_loss
    epoch = int(np.argmin(history.val_loss))
    assert (list(best.get_xdata()), list(best.get_ydata())) == (
        [epoch + 1],
        [min(val_loss.get_ydata())],
    )
    assert f"best epoch: {epoch + 1}" in ax.get_legend().get_texts()[2].get_text()


def test_history_without_validation_on_a_logarithmic_axis(ax):
    plot.history(dj.History([3.0, 1.0, 2.0]), log=True, ax=ax)
    _, best = ax.lines
    assert ax.get_yscale() == "log"
    assert best.get_xdata() == [2]


def test_history_without_a_mark(ax):
    assert len(plot.history(dj.History([3.0, 1.0]), best=False, ax=ax).lines) == 1


def test_history_of_members(ax):
    median, best = members().plot(ax=ax).lines
    assert list(median.get_ydata()) == [3.5, 2.0]
    assert best.get_xdata() == [2]
    band = ax.collections[0].get_paths()[0].vertices
    at_the_end = band[band[:, 0] == 2, 1]
    assert at_the_end.min() == pytest.approx(1.2)
    assert at_the_end.max() == pytest.approx(2.8)


# -------------------------------------------------------------------- predictions


@pytest.mark.parametrize("n_out", [1, 2, 3, 12])
def test_regions_are_predictions(ax, n_out):
    net, labels = classifier(n_out), np.arange(40) % max(n_out, 2)
    plot.decision_regions(net, X2, labels, resolution=20, ax=ax)
    (image,) = ax.images
    left, right, bottom, top = image.get_extent()
    assert image.origin == "lower"
    assert left < X2[:, 0].min() < X2[:, 0].max() < right
    assert bottom < X2[:, 1].min() < X2[:, 1].max() < top
    x = left + (np.arange(20) + 0.5) * (right - left) / 20
    y = bottom + (np.arange(20) + 0.5) * (top - bottom) / 20
    grid = np.array([[(a, b) for a in x] for b in y]).reshape(-1, 2)
    p = net.predict(grid)
    p = np.hstack([1 - p, p]) if n_out == 1 else p
    picture = np.asarray(image.get_array()).reshape(400, 4)
    colors = np.array([c.get_facecolor()[0] for c in artists(ax, PathCollection)])
    assert len(np.unique(colors, axis=0)) == len(colors) == max(n_out, 2)
    np.testing.assert_allclose(picture[:, :3], colors[p.argmax(axis=1), :3])
    surest = p.max(axis=1).argmax()
    assert picture[:, 3].argmax() == surest


def test_samples_lie_where_they_are(ax):
    plot.decision_regions(classifier(), X2, LABELS, ax=ax)
    for k, scatter in enumerate(artists(ax, PathCollection)):
        own = X2[np.equal(LABELS, k)]
        np.testing.assert_array_equal(scatter.get_offsets(), own.astype("float32"))
        assert scatter.get_label() == str(k)


def test_legend_of_classes_hides_no_sample(ax):
    plot.decision_regions(classifier(12), X2, LABELS, ax=ax)
    ax.figure.canvas.draw()
    box, figure = ax.get_legend().get_window_extent(), ax.figure.bbox
    assert ax.get_window_extent().x1 < box.x0 < box.x1 <= figure.x1
    assert figure.y0 <= box.y0


def test_rows_of_probabilities_are_classes_too(ax):
    plot.decision_regions(classifier(), X2, np.eye(3)[LABELS], ax=ax)
    assert [len(s.get_offsets()) for s in artists(ax, PathCollection)] == [14, 13, 13]


def test_line_between_regions_is_where_two_are_as_likely(ax):
    net = classifier(1)
    net.theta[-1] = 0
    plot.decision_regions(net, X2, LABELS > 0, ax=ax)
    (line,) = (c for c in ax.collections if not isinstance(c, PathCollection))
    vertices = np.concatenate([path.vertices for path in line.get_paths()])
    np.testing.assert_allclose(net.predict(vertices), 0.5, atol=0.01)


def test_a_network_that_sees_one_class_everywhere(ax):
    net = classifier(1)
    net.theta[-1] = 50
    plot.decision_regions(net, X2, LABELS > 0, ax=ax)
    assert len(artists(ax, PathCollection)) == len(ax.collections) == 2


def test_curve_is_the_prediction(ax):
    net, Y = network(1, 8, 2), np.hstack([X1, X1**2])
    plot.regression(net, X1, Y, ax=ax)
    assert len(ax.lines) == 4
    for k in range(2):
        points, curve = ax.lines[2 * k : 2 * k + 2]
        np.testing.assert_array_equal(points.get_xdata(), X1[:, 0].astype("float32"))
        np.testing.assert_array_equal(points.get_ydata(), Y[:, k].astype("float32"))
        x = curve.get_xdata()
        assert x[0] < X1.min() < X1.max() < x[-1]
        np.testing.assert_array_equal(curve.get_ydata(), net.predict(x[:, None])[:, k])


def test_more_inputs_are_drawn_against_the_truth(ax):
    net, Y = network(3, 8, 1), X3.sum(axis=1)
    points, diagonal = plot.regression(net, X3, Y, ax=ax).lines
    found = net.predict(X3)[:, 0]
    np.testing.assert_array_equal(points.get_xdata(), Y.astype("float32"))
    np.testing.assert_array_equal(points.get_ydata(), found)
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata())
    assert f"RMSE {np.sqrt(np.mean((found - Y) ** 2)):.3g}" in points.get_label()


# -------------------------------------------------------------------- parameters


def heights(ax):
    """Heights of each row's histogram above its own bottom, and its edges."""
    for patch in artists(ax, StepPatch):
        values, edges, bottom = patch.get_data()
        yield values - bottom, edges


def test_weight_histograms(ax):
    net = network(8, 16, 3)
    plot.weight_histograms(net, ax=ax)
    for W, (height, edges) in zip(net.weights, heights(ax), strict=True):
        counts, _ = np.histogram(W, edges)
        assert counts.sum() == W.size
        np.testing.assert_allclose(height / height.max(), counts / counts.max(), atol=1e-12)
    names = {t.get_text(): y for t, y in zip(ax.get_yticklabels(), ax.get_yticks(), strict=True)}
    assert names["W[0] 8-16"] > names["W[1] 16-3"]


def test_gradient_histograms(ax):
    net, X = network(4, 16, 1), np.hstack([X3, 0 * X1])  # the last input is always 0
    plot.gradient_histograms(net, X, X1, ax=ax)
    dW, _ = net.unflatten(net.grad(X, X1))
    for part, (height, edges) in zip(dW, heights(ax), strict=True):
        counts, _ = np.histogram(np.abs(part), edges)
        assert counts.sum() == np.count_nonzero(part)
        np.testing.assert_allclose(height / height.max(), counts / counts.max(), atol=1e-12)
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["W[0] 4-16, 25% are 0", "W[1] 16-1"]


def test_gradient_of_zeros_is_drawn(ax):
    net = dj.Network([2, 4, 1], init="zeros")
    plot.gradient_histograms(net, X2, 0 * X1, ax=ax)
    assert all(label.get_text().endswith("100% are 0") for label in ax.get_yticklabels())
    assert all((height == 0).all() for height, _ in heights(ax))


def test_gradient_at_the_end_of_its_axis_is_counted(ax):
    net = dj.Network([2, 1], init="zeros")
    plot.gradient_histograms(
        net, [[0.03, 0.10000001]], [[-1.0]], ax=ax
    )  # to float32, a power of 10
    ((height, _),) = heights(ax)
    assert np.count_nonzero(height) == 2


def test_graph_has_every_weight_and_bias(ax):
    net = network(3, 5, 2)
    plot.graph(net, ax=ax)
    (lines,) = artists(ax, LineCollection)
    weights = np.concatenate([W.ravel() for W in net.weights])
    np.testing.assert_array_equal(np.sort(lines.get_array()), np.sort(weights))
    strongest = lines.get_segments()[-1]  # drawn last
    layer = int(strongest[0, 0])
    columns = [scatter.get_offsets() for scatter in artists(ax, PathCollection)]
    W = net.weights[layer]
    to, start = np.unravel_index(np.abs(W).argmax(), W.shape)
    assert np.abs(W).max() == np.abs(weights).max()
    np.testing.assert_array_equal(strongest, [columns[layer][start], columns[layer + 1][to]])
    for scatter, b in zip(artists(ax, PathCollection)[1:], net.biases, strict=True):
        np.testing.assert_array_equal(scatter.get_array(), b)
        assert scatter.get_clim() == lines.get_clim()


def test_graph_of_just_as_many_units_is_whole(ax):
    plot.graph(network(5, 4), max_units=5, ax=ax)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["inputs\n5", "identity\n4"]
    inputs, outputs = (s.get_offsets()[:, 1] for s in artists(ax, PathCollection))
    assert list(inputs) == [2, 1, 0, -1, -2]
    assert list(outputs) == [1.5, 0.5, -0.5, -1.5]
    assert all(len(dots.get_xdata()) == 0 for dots in ax.lines)


def test_graph_of_few_weights_has_their_values_and_names(ax):
    net = network(2, 3, 1)
    plot.graph(net, input_names=["mass", "age"], output_names=["risk"], ax=ax)
    texts = [text.get_text() for text in ax.texts]
    assert [*texts[:3]] == ["mass", "age", "risk"]
    assert sorted(texts[3:]) == sorted(f"{w:.2g}" for W in net.weights for w in W.ravel())
    for text in ax.texts[3:]:  # on its line
        (lines,) = artists(ax, LineCollection)
        x, y = text.get_position()
        on = [
            a[0] < x < b[0] and np.isclose(y, np.interp(x, [a[0], b[0]], [a[1], b[1]]))
            for a, b in lines.get_segments()
        ]
        assert text.get_text() in {f"{w:.2g}" for w in lines.get_array()[on]}


def test_colours_are_not_faint_on_white():
    from matplotlib.colors import to_rgb

    from deltajit.plot.axes import sequence

    for rgb in [*map(to_rgb, plot.PALETTE), *sequence(8)]:
        assert np.dot(rgb, [0.2126, 0.7152, 0.0722]) < 0.75


@pytest.mark.parametrize("most", [2, 3, 12])
def test_graph_thins_out_and_says_so(ax, most):
    net = network(40, 20, 2, output="softmax")
    plot.graph(net, max_units=most, ax=ax)
    names = [label.get_text() for label in ax.get_xticklabels()]
    assert names == [f"inputs\n{most} of 40", f"tanh\n{most} of 20", "softmax\n2"]
    (lines,) = artists(ax, LineCollection)
    some = np.r_[: (most + 1) // 2, 20 - most // 2 : 20]
    expected = np.concatenate([
        net.weights[0][np.ix_(some, np.r_[: (most + 1) // 2, 40 - most // 2 : 40])].ravel(),
        net.weights[1][:, some].ravel(),
    ])  # fmt: skip
    np.testing.assert_array_equal(np.sort(lines.get_array()), np.sort(expected))
    for column, dots in zip(artists(ax, PathCollection)[:2], ax.lines, strict=False):
        assert len(column.get_offsets()) == most
        between = column.get_offsets()[[most // 2 - (most + 1) % 2, -(most // 2)], 1]
        assert between[0] > dots.get_ydata().max() > dots.get_ydata().min() > between[1]


# -------------------------------------------------------------------- what is refused


WRONG = [
    (lambda: plot.history(dj.History()), ValueError, "history has no epochs"),
    (lambda: plot.history([1.0, 2.0]), TypeError, "history must be a History .*, got list"),
    (lambda: plot.history(dj.History([0.0, -1.0]), log=True), ValueError, "log=True needs"),
    (lambda: plot.decision_regions(network(3, 2, output="softmax"), X3, LABELS), ValueError,
     "net must have 2 inputs for decision regions, got 3"),
    (lambda: plot.decision_regions(network(2, 1), X2, LABELS), ValueError,
     "net must be a classifier.*got 1 x identity"),
    (lambda: plot.decision_regions(classifier(), X3, LABELS), ValueError, "X must have shape"),
    (lambda: plot.decision_regions(classifier(), X2[None], LABELS), ValueError, "X must have"),
    (lambda: plot.decision_regions(classifier(), X2, LABELS + 1), ValueError, "Y has the label 3"),
    (lambda: plot.decision_regions(classifier(), X2 * np.nan, LABELS), ValueError, "X has NaN"),
    (lambda: plot.decision_regions(classifier(), X2, LABELS, resolution=1), ValueError,
     "resolution must be >= 2"),
    (lambda: plot.regression(classifier(), X2, LABELS), ValueError, "net must be a regressor"),
    (lambda: plot.regression(network(1, 1), X1, X2), ValueError, "Y must have shape"),
    (lambda: plot.predicted_against_true(network(3, 1), X3, X3), ValueError, "Y must have shape"),
    (lambda: plot.weight_histograms("net"), TypeError, "net must be a Network .*, got str"),
    (lambda: plot.weight_histograms(dj.Ensemble([1, 1], 2)), TypeError, "got Ensemble"),
    (lambda: plot.gradient_histograms(classifier(), X3, LABELS), ValueError, "X must have shape"),
    (lambda: plot.graph(classifier(), max_units=1), ValueError, "max_units must be >= 2"),
    (lambda: plot.graph(classifier(), input_names=["x"]), ValueError, "input_names must be 2"),
    (lambda: plot.graph(classifier(), output_names="abc"), ValueError, "output_names must be 3"),
    (lambda: plot.graph(classifier(), ax=[1]), TypeError, "ax must be one matplotlib Axes"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), WRONG, ids=[w[2] for w in WRONG])
def test_wrong_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("draw", [plot.graph, plot.weight_histograms])
def test_nan_in_weights_is_named(draw):
    net = classifier()
    net.weights[1][0, 3] = np.nan
    with pytest.raises(ValueError, match=r"net.weights\[1\] has NaN"):
        draw(net)
