"""Registered models in other formats: written, run beside the model itself on the same pictures, and refused where they differ."""
