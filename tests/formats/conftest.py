from hypothesis import settings

settings.register_profile("formats", max_examples=15, deadline=None, derandomize=True)
settings.load_profile("formats")
