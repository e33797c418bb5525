"""Laptops for the tests here, and what was trained on one once for all of them."""

from laptop import (
    digits,
    file_laptop,
    laptop,
    make_dataset,
    make_laptop,
    toy_trained,
    trained,
)

__all__ = [
    "digits",
    "file_laptop",
    "laptop",
    "make_dataset",
    "make_laptop",
    "toy_trained",
    "trained",
]
