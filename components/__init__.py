"""The stages of a retraining, one folder per stage, and the code that they share."""
