"""Training libraries: the protocol and a folder for each, settings, starting weights, tracking."""
