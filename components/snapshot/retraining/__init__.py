"""Whether a scheduled run goes on: the retraining policy, and what happened since the champion was trained.

The decision is made in snapshot, anew in each run and outside its receipt, so a run that is not worth its cost ends there.
"""
