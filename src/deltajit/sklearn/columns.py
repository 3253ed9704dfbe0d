"""Tables as people have them: columns of categories, and missing values, as numbers.

A `Table` learns the columns in `fit`, and encodes them: first those of numbers, then one for each
of these that has missing values, 1 where they are, then one for each category, 1 where it occurs.
The weights behind a category's column are its learnt vector. `Embedding` makes vectors of a given
size of them: a first layer of identity activation, in which all other weights are fixed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.utils.validation import check_array

from deltajit.model import checks
from deltajit.model.memory import Array
from deltajit.sklearn.samples import FLOATS

Mask = NDArray[np.bool_]
Columns = str | ArrayLike | None  # what `categorical_features` may be

MOST = 1000  # categories of a column: each is a column of numbers
# Dtypes of pandas, polars and Arrow, without their parameters.
TEXT = ("category", "categorical", "enum", "str", "string", "large_string", "dictionary")


def needs_table(wanted: Columns, missing: str, X: Any) -> bool:
    """Return whether X is to be encoded, or all columns hold numbers as they are."""
    if isinstance(wanted, str):
        checks.choice(wanted, "categorical_features", ("from_dtype",))
        wanted = wanted if any(_of_text(X)) else None
    return missing == "indicator" or wanted is not None


def categorical_columns(wanted: Columns, X: Any, names: Sequence[str], count: int) -> Mask:
    """Return which columns of X hold categories, as `categorical_features` says."""
    if wanted is None:
        return np.zeros(count, bool)
    if isinstance(wanted, str):
        return np.array(_of_text(X) or [False] * count, bool)
    given = np.asarray(wanted)
    if given.dtype == bool and given.shape == (count,):
        return given
    if given.size == 0:
        return np.zeros(count, bool)
    columns: list[Any] = list(range(count) if given.dtype.kind in "iu" else names)
    if given.ndim != 1 or any(each not in columns for each in given.tolist()):
        raise ValueError(
            "categorical_features must list columns of X, by name or number, or be "
            f"{count} booleans, got {wanted!r}"
        )
    return np.array([each in given for each in columns])


def rows_of(X: Any) -> Any:
    """Return a data frame, or an array that may hold numbers beside text, as a list does."""
    if issparse(X):
        raise TypeError("X is sparse, which categorical_features and missing don't go with")
    if hasattr(X, "dtypes"):
        return X
    kind = None if isinstance(X, np.ndarray) else object
    return check_array(X, dtype=kind, ensure_all_finite=False, input_name="X")


class Table:
    """Encode tables of the columns that one has.

    Parameters
    ----------
    X : array_like or data frame, (n_samples, n_features)
        The table to learn categories and means from.
    categorical : ndarray of bool, (n_features,)
        Which columns hold categories.
    indicates : bool
        Whether missing values are taken, and indicated.
    """

    def __init__(self, X: Any, categorical: Mask, indicates: bool) -> None:
        self.categorical, self._indicates = categorical, indicates
        check = partial(check_array, dtype=FLOATS, ensure_min_features=0, input_name="X")
        numbers = FunctionTransformer(check, feature_names_out="one-to-one")
        if indicates:
            numbers = SimpleImputer(add_indicator=True, keep_empty_features=True)
        categories = OneHotEncoder(
            handle_unknown="ignore",
            sparse_output=False,
            dtype=np.float32,
            feature_name_combiner=_named,
        )
        self._transformer = ColumnTransformer(
            [
                ("numbers", numbers, np.flatnonzero(~categorical)),
                ("categories", categories, np.flatnonzero(categorical)),
            ],
            verbose_feature_names_out=False,
        ).set_output(transform="default")
        self._transformer.fit(self._without_na(X))
        self.widths = self._checked_widths() if categorical.any() else []
        names = self._transformer.get_feature_names_out().tolist()
        self.n_plain = len(names) - sum(self.widths)  # columns that aren't of categories
        marks = range(self.n_numbers, self.n_plain)
        self.names = [_of_mark(name) if k in marks else name for k, name in enumerate(names)]

    @property
    def n_numbers(self) -> int:
        """Return the number of columns that hold numbers."""
        return int(np.count_nonzero(~self.categorical))

    def encode(self, X: Any) -> Array:
        """Return the numbers (n_samples, n_encoded) of a table."""
        encoded = np.ascontiguousarray(self._transformer.transform(self._without_na(X)))
        if not self._indicates:
            self._check_known(encoded)
        return encoded

    def of_features(self, J: Array) -> Array:
        """Return derivatives by features: those by numbers, and NaN by categories."""
        out = np.full((*J.shape[:-1], len(self.categorical)), np.nan, J.dtype)
        out[..., ~self.categorical] = J[..., : self.n_numbers]
        return out

    def keep_indicators(self, scaler: StandardScaler) -> None:
        """Change a scaler of encoded columns, in place, to scale those of numbers only."""
        scaler.mean_[self.n_numbers :] = 0
        scaler.scale_[self.n_numbers :] = scaler.var_[self.n_numbers :] = 1

    def spread(self, of_features: NDArray[np.int8]) -> NDArray[np.int8]:
        """Return a number of each feature for each encoded column, 0 but for numbers."""
        out = np.zeros(len(self.names), np.int8)
        out[: self.n_numbers] = of_features[~self.categorical]
        return out

    def _without_na(self, X: Any) -> Any:
        """Return rows without pandas.NA in columns of categories: OneHotEncoder takes NaN."""
        if not hasattr(X, "isna"):
            return X
        names, X = X.columns[self.categorical], X.copy(deep=False)
        X[names] = X[names].astype(object).where(X[names].notna(), np.nan)
        return X

    def _checked_widths(self) -> list[int]:
        """Return the number of categories of each column of such."""
        found = self._transformer.named_transformers_["categories"].categories_
        for name, each in zip(self._named_columns(), found, strict=True):
            if len(each) > MOST:
                raise ValueError(
                    f"the column {name!r} of X has {len(each)} categories, and may have {MOST}; "
                    "leave it out, or join rare ones"
                )
            if not self._indicates and any(x is None or x != x for x in each):
                raise ValueError(
                    f"the column {name!r} of X has missing values; missing='indicator' takes them"
                )
        return [len(each) for each in found]

    def _named_columns(self) -> list[Any]:
        """Return the names, or numbers, of the columns of categories."""
        columns = np.flatnonzero(self.categorical)
        names = getattr(self._transformer, "feature_names_in_", range(len(self.categorical)))
        return [names[k] for k in columns]

    def _check_known(self, encoded: Array) -> None:
        """Check that each sample has one of the known categories in each column."""
        first = self.n_plain
        for name, width in zip(self._named_columns(), self.widths, strict=True):
            known = encoded[:, first : first + width].any(axis=1)
            if not known.all():
                raise ValueError(
                    f"the column {name!r} of X has a missing value, or a category that fit has not "
                    f"seen, first in row {known.argmin()}; missing='indicator' takes them"
                )
            first += width


class Embedding(NamedTuple):
    """Describe the layer that makes vectors of `size` numbers of the categories of a table."""

    table: Table
    size: int

    @property
    def n_out(self) -> int:
        """Return the number of the layer's units."""
        return self.table.n_plain + self.size * len(self.table.widths)

    def behind(self, inputs: NDArray[np.int8]) -> NDArray[np.int8]:
        """Return a number of each input for each unit, 0 for the vectors."""
        vectors = np.zeros(self.n_out - self.table.n_plain, np.int8)
        return np.concatenate([inputs[: self.table.n_plain], vectors])

    def restrict(self, lower: Array, upper: Array) -> None:
        """Fix the weights (n_out, n_encoded), in place, that are not of vectors of categories."""
        n_plain = self.table.n_plain
        lower[...] = upper[...] = np.eye(*lower.shape)
        lower[n_plain:] = upper[n_plain:] = 0
        row = column = n_plain
        for width in self.table.widths:
            block = np.s_[row : row + self.size, column : column + width]
            lower[block], upper[block] = -np.inf, np.inf
            row, column = row + self.size, column + width


def _named(feature: object, category: object) -> str:
    """Return the name of a category's column."""
    missing = category is None or category != category
    return f"{feature} is missing" if missing else f"{feature}={category}"


def _of_mark(name: str) -> str:
    """Return the name of the column that marks missing numbers, from scikit-learn's."""
    return name.removeprefix("missingindicator_") + " is missing"


def _of_text(X: Any) -> list[bool]:
    """Return whether each column of a data frame has a dtype of categories or text."""
    if not hasattr(X, "dtypes"):
        return []
    kinds = [re.split(r"[(\[<]", str(kind))[0].lower() for kind in X.dtypes]
    return [
        kind in TEXT or (kind == "object" and any(isinstance(x, str) for x in X[name]))
        for name, kind in zip(X.columns, kinds, strict=True)
    ]
