"""The DICE dataset format: its types, its tasks and their files. Pure functions, no stores."""
