"""Three small networks by `dj.plot`: two moons, a noisy sine, handwritten digits."""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits, make_moons

import deltajit as dj

_, axes = plt.subplots(2, 3, figsize=(15, 8.5), layout="constrained")

X, Y = make_moons(300, noise=0.15, random_state=0)
net = dj.Network([2, 16, 16, 1], output="sigmoid")
net.fit(X, Y, epochs=300, optimizer=dj.Adam(1e-2), progress=False)
dj.plot.decision_regions(net, X, Y, ax=axes[0, 0]).set_title("plot.decision_regions: two moons")
dj.plot.graph(net, ax=axes[1, 2]).set_title("plot.graph: the network of the two moons")

rng = np.random.default_rng(0)
X = rng.uniform(-np.pi, np.pi, size=(200, 1))
Y = np.sin(X) + 0.15 * rng.normal(size=X.shape)
net = dj.Network([1, 32, 1])
net.fit(X, Y, epochs=1000, optimizer=dj.Adam(1e-2), progress=False)
dj.plot.regression(net, X, Y, ax=axes[0, 1]).set_title("plot.regression: a noisy sine")

X, Y = load_digits(return_X_y=True)
X, test = X[:1400] / 16, (X[1400:] / 16, Y[1400:])
net = dj.Network([64, 64, 32, 10], "relu", "softmax")
history = net.fit(X, Y[:1400], epochs=40, validation_data=test, progress=False)
history.plot(log=True, ax=axes[0, 2]).set_title("history.plot(log=True): digits")
dj.plot.weight_histograms(net, ax=axes[1, 0]).set_title("plot.weight_histograms: digits")
dj.plot.gradient_histograms(net, *test, ax=axes[1, 1]).set_title("plot.gradient_histograms: digits")
