from hypothesis import settings

# How long an example takes says nothing on a busy machine.
settings.register_profile("untimed", deadline=None, max_examples=50)
settings.load_profile("untimed")
