"""What the playground is made of, below its page: data, formulas, tables, training in a thread."""

import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from deltajit import cli
from deltajit.playground import datasets, formulas, settings, tables
from deltajit.playground.settings import Settings
from deltajit.playground.sources import Drawn, Made, Typed
from deltajit.playground.trainer import MOST_POINTS, Curve, Trainer, Turns


def wait(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def trained(trainer, epochs):
    """The copy that is shown when so many more epochs are done."""
    until = trainer.frame().epoch + epochs
    trainer.train(epochs)
    wait(lambda: is_done(trainer.frame(), until))
    return trainer.frame()


def is_done(shown, until):
    return shown.is_over or (shown.epoch >= until and not shown.is_running)


@pytest.fixture
def trainer():
    made = []

    def make(source, **options):
        made.append(Trainer(Settings(**options), source.samples()))
        return made[-1]

    yield make
    for each in made:
        each.close()
        each.join()


# -------------------------------------------------------------------- data


@pytest.mark.parametrize("name", [*datasets.CLASSES, *datasets.NUMBERS])
def test_sets_are_made_of_a_seed(name):
    one, same, other = (datasets.make(name, 50, 0.1, 0.2, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.X, same.X)
    assert not np.array_equal(one.X, other.X)
    assert one.n_train == 40
    assert len(one.held_out[0]) == 10
    assert len(one.names) == one.X.shape[1] + (0 if one.classes else 1)
    if one.classes:
        assert set(one.Y) == set(range(len(one.classes)))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (dict(n=10**9), "n must be <= 100,000"),
        (dict(n=1), "n must be >= 2"),
        (dict(noise=np.nan), "noise"),
        (dict(share=1.5), "share"),
        (dict(seed=-1), "seed"),
        (dict(name="spiral"), "did you mean 'spirals'"),
    ],
)
def test_wrong_set_is_named(options, says):
    with pytest.raises(ValueError, match=says):
        datasets.make(**{"name": "spirals", **options})


def test_function_is_what_was_typed():
    samples = datasets.function("sin(3*x) + 0.3*x^2 - pi", 40, noise=0)
    x = samples.X
    np.testing.assert_allclose(samples.Y, np.sin(3 * x) + 0.3 * x**2 - np.pi, rtol=1e-12)
    np.testing.assert_array_equal(datasets.function("2", 5, noise=0).Y, np.full((5, 1), 2.0))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("__import__('os')", "'__import__' is no function here"),
        ("x.__class__", "means nothing here"),
        ("[x for x in (1,)]", "means nothing here"),
        ("lambda: x", "means nothing here"),
        ("x if x else 1", "means nothing here"),
        ("'a' * 10", "means nothing here"),
        ("True + x", "means nothing here"),
        ("sin(x, x)", "means nothing here"),
        ("sin(x=x)", "means nothing here"),
        ("y + 1", "'y' is no number here"),
        ("sin", "'sin' is no number here"),
        ("sin(", "is no formula"),
        ("", "is no formula"),
        ("9**9**9**9", "can't be computed"),
        ("1/0", "can't be computed"),
        ("(-1)**0.5", "can't be computed"),
        ("x+" * 300 + "x", "500 characters"),
        ("log(x)", "no finite value at x = -"),
    ],
)
def test_wrong_function_is_a_sentence(text, says):
    with pytest.raises(ValueError, match="(?s)" + says.replace("*", r"\*").replace("+", r"\+")):
        datasets.function(text)


def test_nothing_that_is_typed_is_executed(monkeypatch):
    monkeypatch.setattr("builtins.eval", None)
    monkeypatch.setattr("builtins.exec", None)
    assert formulas.parse("exp(-x**2)")([0.0]) == 1


def test_table_becomes_samples():
    table = tables.parse("\ufeffa; b;kind\n1;2;x\n3;2;y\n5;2;x\n\n".encode())
    assert table.names == ("a", "b", "kind")
    samples = tables.samples(table, ["a", "b"], "kind", classes=True, share=0)
    assert samples.classes == ("x", "y")
    np.testing.assert_allclose(samples.X.mean(axis=0), 0, atol=1e-15)
    np.testing.assert_allclose(samples.X.std(axis=0), [1, 0])  # b is constant
    samples = tables.samples(table, ["b"], "a", classes=False)
    np.testing.assert_allclose([samples.Y.mean(), samples.Y.std()], [0, 1], atol=1e-15)
    assert samples.classes == ()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\xff\xfea\x00", "UTF-8"),
        (b"a\0,b\n1,2\n", "no text"),
        (b"", "two columns"),
        (b"a,a\n1,2\n3,4\n", "a name of its own"),
        (b"a,\n1,2\n3,4\n", "a name of its own"),
        (b"a,b\n1,2\n", "two rows"),
        (b"a,<b>\n1,2\n3,4\n", "may not have one of < > &"),
        (b"a,b\n1,2\n1,2,3\n", "row 2 has 3 cells"),
        (b"a,b\n" + b"1,2\n" * 100_001, "more than 100,000 rows"),
    ],
)
def test_wrong_table_is_a_sentence(data, says):
    with pytest.raises(ValueError, match=says):
        tables.parse(data)


@pytest.mark.parametrize(
    ("inputs", "target", "classes", "says"),
    [
        ([], "c", True, "choose 1 to 20"),
        (["a", "c"], "c", True, "choose 1 to 20"),
        (["b"], "c", True, "column 'b' has no number in row 2: empty"),
        (["d"], "c", True, "column 'd' has no number in row 1: 'x'"),
        (["a"], "d", True, "one class only"),
        (["a"], "b", True, "column 'b' is empty in row 2"),
        (["a"], "d", False, "column 'd' has no number"),
        (["e"], "c", True, "column 'e' is not finite in row 1: inf"),
        (["f"], "c", True, "too large to be standardized"),
    ],
)
def test_wrong_columns_are_a_sentence(inputs, target, classes, says):
    table = tables.parse(b"a,b,c,d,e,f\n1,2,u,x,inf,1e308\n2,,v,x,1,-1e308\n")
    with pytest.raises(ValueError, match=says):
        tables.samples(table, inputs, target, classes=classes)


def test_too_many_classes_are_a_sentence():
    table = tables.parse(b"a,b\n" + b"".join(b"1,%d\n" % i for i in range(11)))
    with pytest.raises(ValueError, match="11 classes; 2 to 10 can be told apart"):
        tables.samples(table, ["a"], "b", classes=True)


# -------------------------------------------------------------------- training


@pytest.mark.parametrize("optimizer", settings.OPTIMIZER_NAMES)
def test_every_optimizer_trains(trainer, optimizer):
    loss = "squared_error" if optimizer == "LevenbergMarquardt" else "cross_entropy"
    made = trainer(Made("moons", 40, 0.1, 0.2, 0), optimizer=optimizer, loss=loss)
    shown = trained(made, 3)
    assert shown.error == ""
    assert shown.epoch == 3


@pytest.mark.parametrize(
    ("source", "options"),
    [
        (Made("moons", 60, 0.1, 0.3, 1), dict(loss="binary_cross_entropy", dropout=0.2, l2=1e-3)),
        (Made("three spirals", 60, 0.1, 0.3, 1), dict(loss="squared_error", output="softmax")),
        (Made("hills", 60, 0.1, 0.0, 1), dict(loss="gaussian_nll", schedule="OneCycle", epochs=30)),
        (Typed("x**2", 60, 0.1, 0.3, 1), dict(loss="huber", schedule="StepDecay", epochs=30)),
        (Drawn(((0, 0, 0), (1, 1, 1), (0, 1, 2))), dict(optimizer="Rprop", hidden=(),
                                                       activations=())),
        (Drawn(((0, 0), (1, 1)), True), dict(loss="squared_error", optimizer="LevenbergMarquardt")),
    ],
)  # fmt: skip
def test_script_gives_the_same_bits(trainer, tmp_path, source, options):
    made = trainer(source, **options)
    assert trained(made, 7).error == ""
    shown = trained(made, 4)
    X, Y = made.samples.train
    code = settings.script(made.settings, source, shown.epoch)
    code += f"\nnp.save({str(tmp_path / 'theta.npy')!r}, net.theta)\n"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "theta.npy"), shown.theta)
    assert np.isfinite(made.net.loss(X, made.settings.targets(Y, made.samples)))


def test_pause_step_and_close(trainer):
    made = trainer(Made("moons", 60, 0.1, 0.3, 1))
    made.train(100_000)
    wait(lambda: made.frame().epoch > 3)
    made.pause()
    wait(lambda: not made.frame().is_running)
    epoch = made.frame().epoch
    assert trained(made, 1).epoch == epoch + 1
    names = threading.active_count()
    made.close()
    made.join()
    assert threading.active_count() == names - 1


def test_speed_is_limited(trainer):
    made = trainer(Made("moons", 60, 0.1, 0.3, 1))
    trained(made, 1)
    made.epochs_a_second = 20.0
    began = time.monotonic()
    made.train(4)
    wait(lambda: made.frame().epoch == 5)
    assert time.monotonic() - began > 3 / 20


def test_divergence_keeps_the_last_good_weights(trainer):
    made = trainer(Made("sine", 60, 0.1, 0.3, 1), loss="squared_error", optimizer="SGD", lr=1e6)
    shown = trained(made, 50)
    assert shown.is_over
    assert "the loss is not finite" in shown.error
    assert np.isfinite(shown.theta).all()


def test_schedule_ends_training(trainer):
    made = trainer(Made("moons", 60, 0.1, 0.3, 1), schedule="CosineDecay", epochs=20)
    shown = trained(made, 100)
    wait(lambda: made.frame().is_over)
    assert shown.epoch == 20


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (dict(loss="poisson"), "loss"),
        (dict(output="sigmoid"), "needs output='softmax'"),
        (dict(loss="binary_cross_entropy"), "2 classes apart, not 3"),
        (dict(lr=-1.0), "lr"),
        (dict(hidden=(65,), activations=("tanh",)), "the units of hidden layer 1 must be <= 64"),
        (dict(hidden=(1,) * 7, activations=("tanh",) * 7), "hidden layers must be <= 6"),
        (dict(epochs=10**9), "epochs must be <= 200,000"),
        (dict(optimizer="Adamm"), "did you mean 'Adam'"),
        (dict(schedule="never"), "schedule='never' is unknown"),
    ],
)
def test_wrong_settings_are_named(trainer, options, says):
    with pytest.raises(ValueError, match=says):
        trainer(Made("three spirals", 60, 0.1, 0.3, 1), **options)


def test_long_curve_is_thinned_out():
    curve = Curve()
    for epoch in range(1, 10 * MOST_POINTS + 1):
        curve.note(epoch, float(epoch), -float(epoch))
    assert MOST_POINTS / 2 <= len(curve.epochs) <= MOST_POINTS
    assert len(set(np.diff(curve.epochs))) == 1
    assert curve.losses == [(float(e), -float(e)) for e in curve.epochs]


def test_turns_go_round():
    """Of threads that wait, none has two turns before another has one."""
    turns, order, start = Turns(1), [], threading.Barrier(3)

    def work(name):
        start.wait()
        for _ in range(20):
            turns.take()
            order.append(name)
            time.sleep(0.002)
            turns.give()

    threads = [threading.Thread(target=work, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    middle = order[6:40]
    for i in range(len(middle) - 6):
        assert set(middle[i : i + 6]) == {0, 1, 2}


def test_optimizer_that_wants_another_loss_is_told(trainer):
    shown = trained(trainer(Made("moons", 40, 0.1, 0.2, 0), optimizer="LevenbergMarquardt"), 3)
    assert shown.is_over
    assert "squared_error" in shown.error


# -------------------------------------------------------------------- the command


def test_others_are_let_in_with_a_token_only(capsys):
    pytest.importorskip("bokeh")
    assert cli.main(["playground", "--address", "0.0.0.0", "--no-browser"]) == 2
    assert "it needs --token" in capsys.readouterr().err


def test_port_in_use_is_a_sentence():
    pytest.importorskip("bokeh")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "deltajit", "playground", "--no-browser", "--port", port]
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"can't serve on 127.0.0.1, port {port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_port_is_a_sentence(capsys):
    with pytest.raises(SystemExit):
        cli.main(["playground", "--port", "99999"])
    assert "a port is 0 to 65535, not 99999" in capsys.readouterr().err


def test_without_bokeh_the_extra_is_named(monkeypatch, capsys):
    for name in [x for x in sys.modules if x.split(".")[0] == "bokeh"]:
        monkeypatch.delitem(sys.modules, name)
    for name in [x for x in sys.modules if x.startswith("deltajit.playground.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "bokeh", None)
    assert cli.main(["playground"]) == 1
    assert "pip install 'deltajit[playground]'" in capsys.readouterr().err
