"""Conditions, the schemes that make them, and several schemes together."""

from __future__ import annotations

from ..condition_text import composed_texts, keyed_text, keyed_texts
from .condition import Composition, Condition
from .scheme import ConditioningScheme, NoOptions
from .tensors import Tensors, each_tensor, tensors_of
from .together import Together

__all__ = [
    "Composition",
    "Condition",
    "ConditioningScheme",
    "NoOptions",
    "Tensors",
    "Together",
    "composed_texts",
    "each_tensor",
    "keyed_text",
    "keyed_texts",
    "tensors_of",
]
