"""Train scikit-learn's MLPClassifier and MLPRegressor on deltajit's kernels.

Change the import, keep the code::

    from deltajit.sklearn import MLPClassifier, MLPRegressor

Arguments, attributes, methods and stopping rules are those of `sklearn.neural_network`; with the
same `random_state`, so are the initial weights, the split for early stopping and the minibatches.
New are the arguments `class_weight`, `dropout`, `l1` and `standardize`, an activation for each
layer, tables with categories and missing values, outputs that are monotone in a feature, more
losses of the regressor, and the method `input_gradients`.
"""

try:
    import sklearn as _  # noqa: F401
except ImportError:
    raise ImportError(
        "deltajit.sklearn needs scikit-learn: pip install 'deltajit[sklearn]'"
    ) from None

from deltajit.sklearn.classifier import MLPClassifier
from deltajit.sklearn.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
