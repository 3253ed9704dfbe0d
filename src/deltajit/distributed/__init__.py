"""Train on data that one machine doesn't hold, by Dask: the same bits for any number of workers.

`fit` trains one network, `fit_ensemble` the members of an ensemble, `predict` returns a lazy array.
Each takes a `distributed.Client`, or none: then it is Dask's threads in this process that go
through the data, some blocks of it at a time. ``pip install 'deltajit[dask]'``.
"""

try:
    import dask.array  # noqa: F401
    import distributed  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"deltajit.distributed needs dask ({error}): pip install 'deltajit[dask]'"
    ) from None

from deltajit.distributed.cluster import MixedClusterError
from deltajit.distributed.learning import fit
from deltajit.distributed.lots import fit_ensemble, predict

__all__ = ["MixedClusterError", "fit", "fit_ensemble", "predict"]
