"""The training pipeline on each engine: dataset to registered model."""
