"""Runs on a cluster: submitted, followed and found again, whichever engine runs them."""
