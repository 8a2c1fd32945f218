"""Tests to inherit: one class for each kind of thing, which every member passes, ours and a plugin author's.

    from imagen_workbench.core.testing import DatasetContract

    class TestMyDataset(DatasetContract):
        def make_source(self, folder):
            return MyDataset(Data(source="mine"), MyOptions())

pytest finds the tests in the subclass; this package does not need pytest itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .contracts import ConditioningContract, DatasetContract, DenoiserContract, SamplerContract

__all__ = ["ConditioningContract", "DatasetContract", "DenoiserContract", "SamplerContract"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import contracts

    return getattr(contracts, name)
