"""The registered models as people see them, and what people decide about them."""
