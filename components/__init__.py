"""The stages of a retraining, one folder a stage, and what they share."""
