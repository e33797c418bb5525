"""Laptops for the tests here."""

from laptop import digits, file_laptop, laptop, make_dataset, make_laptop, registry_template

__all__ = ["digits", "file_laptop", "laptop", "make_dataset", "make_laptop", "registry_template"]
