"""The same noisy samples fitted freely, and monotone in one of two features."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from deltajit.plot import PALETTE
from deltajit.sklearn import MLPRegressor

warnings.simplefilter("ignore", ConvergenceWarning)  # max_iter is the same for both

rng = np.random.default_rng(0)
X = rng.uniform(-2, 2, size=(150, 2))
y = np.sin(3 * X[:, 1]) - np.tanh(4 * X[:, 0]) + 0.7 * rng.normal(size=150)
options = {"hidden_layer_sizes": (48, 48), "learning_rate_init": 0.005, "random_state": 0}
models = {
    "free": MLPRegressor(**options).fit(X, y),
    "monotonic_cst=[-1, 0]": MLPRegressor(monotonic_cst=[-1, 0], **options).fit(X, y),
}

_, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
along, names = np.linspace(-2, 2, 200), ["x1", "x2"]
for feature, ax in enumerate(axes):
    at = np.zeros((200, 2))
    at[:, feature] = along
    for (name, model), color in zip(models.items(), [PALETTE[1], PALETTE[0]], strict=True):
        ax.plot(along, model.predict(at), color=color, label=name)
    truth = np.sin(3 * at[:, 1]) - np.tanh(4 * at[:, 0])
    ax.plot(along, truth, ":", color="black", label="without noise")
    ax.set(xlabel=names[feature], title=f"along {names[feature]}, the other is 0")
axes[0].set_ylabel("prediction")
axes[0].legend()
