"""Tell scikit-learn's callbacks, which it has since 1.9, of a fit and of its epochs."""

from __future__ import annotations

from typing import Any

from deltajit.network import Network

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # an older scikit-learn, whose users have no callbacks either

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Have no callbacks."""

    def with_callbacks(method: Any) -> Any:
        """Return a method as it is."""
        return method


__all__ = ["CallbackSupportMixin", "Tasks", "tear_down"]


@with_callbacks  # type: ignore[untyped-decorator, unused-ignore]
def tear_down(estimator: Any) -> None:
    """Call `teardown` of an estimator's callbacks, which the decorator does.

    Around `fit` itself it would be one more frame between warnings and the line that they point at.
    """


class Tasks:
    """Call the hooks of an estimator's callbacks: the fit is a task, each epoch one within it.

    `data` are the arguments X, y and metadata of the hooks, as the user gave them.
    """

    def __init__(self, estimator: Any, epochs: int, data: dict[str, Any]) -> None:
        self._estimator, self._data = estimator, {"estimator": estimator, **data}
        self._fit: Any = None
        self._epoch: Any = None
        if hasattr(estimator, "set_callbacks"):
            self._fit = estimator._init_callback_context(max_subtasks=epochs)
            self._fit.call_on_fit_task_begin(**self._data)

    def begin_epoch(self) -> None:
        """Tell that an epoch begins, if anybody listens."""
        if self._fit is not None and hasattr(self._estimator, "_skl_callbacks"):
            self._epoch = self._fit.subcontext(task_name="epoch")
            self._epoch.call_on_fit_task_begin(**self._data)

    def end_epoch(self, net: Network) -> bool:
        """Tell that an epoch ends; return whether a callback asks to stop."""
        return self._end(self._epoch, net)

    def end(self, net: Network) -> None:
        """Tell that the fit ends."""
        self._end(self._fit, net)

    def _end(self, task: Any, net: Network) -> bool:
        """Call hooks, which may ask for a copy of the estimator as it is after the task."""
        if task is None:
            return False

        def fitted() -> dict[str, Any]:
            return {
                "_architecture": net.architecture,
                "coefs_": [W.T.copy() for W in net.weights],
                "intercepts_": [b.copy() for b in net.biases],
            }

        return bool(task.call_on_fit_task_end(**self._data, reconstruction_attributes=fitted))
