"""A training in a process of its own: the messages, the child that trains, and what starts it and turns its end into a result."""
