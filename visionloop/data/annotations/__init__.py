"""The canonical annotations of a dataset, and what is read from them by column. Pure functions, no stores."""
