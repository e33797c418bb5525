"""Following a run on an engine: its state, its record, what a person sees of it."""
