"""Copy and pickle objects that hold addresses, by a description of them."""

from __future__ import annotations

from typing import Any


class Described:
    """Make addresses, scratch memory and locks anew wherever an object is copied to.

    A subclass describes itself by the arguments of its `_bind`, which makes the rest. It keeps its
    attributes in slots, so that ``__dict__`` holds only what a user has added, which is copied too.
    """

    __slots__ = ()

    def _describe(self) -> dict[str, object]:
        """Return arguments of `_bind`, by name, that mean the same in every process."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, object]:
        return {**self._describe(), "attributes": dict(vars(self))}

    def __setstate__(self, state: dict[str, Any]) -> None:
        description = dict(state)
        vars(self).update(description.pop("attributes", {}))
        self._bind(**description)  # type: ignore[attr-defined]
