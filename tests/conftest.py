"""What all tests share."""

from hypothesis import settings

# Under load one example may be slow; how long a test takes is no truth about the code.
settings.register_profile("prefdata", deadline=None)
settings.load_profile("prefdata")
