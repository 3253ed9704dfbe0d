"""Estimators and data for tests."""

import numpy as np
from sklearn import datasets

from deltajit.sklearn import MLPClassifier, MLPRegressor

BOTH = [MLPClassifier, MLPRegressor]


def digits(dtype=np.float64):
    X, y = datasets.load_digits(return_X_y=True)
    return (X[:500] / 16).astype(dtype), y[:500]


def diabetes(dtype=np.float64):
    X, y = datasets.load_diabetes(return_X_y=True)
    return (X * 20).astype(dtype), (y - y.mean()) / y.std()
