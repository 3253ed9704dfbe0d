"""Objects that are copied and pickled as what they are made of."""

from __future__ import annotations

from typing import Any


class Described:
    """An object whose addresses, scratch memory and locks are made anew wherever it is copied to.

    A subclass describes itself by the arguments of its `_bind`, which makes all the rest. What it
    keeps is in slots, so that ``__dict__`` holds what a user, or a user's subclass, has added: that
    goes along.
    """

    __slots__ = ()

    def _describe(self) -> dict[str, Any]:
        """Arguments of `_bind`, by name, that mean the same in every process."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        return {**self._describe(), "attributes": dict(vars(self))}

    def __setstate__(self, state: dict[str, Any]) -> None:
        description = dict(state)
        vars(self).update(description.pop("attributes", {}))
        self._bind(**description)  # type: ignore[attr-defined]
