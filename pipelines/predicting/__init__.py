"""Predictions of a registered model on this machine: which images are meant, what the model finds, and pictures of it."""
