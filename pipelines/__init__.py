"""The pipelines in each engine's own idiom, what runs them on a laptop, and the command line."""
