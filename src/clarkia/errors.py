"""The one exception for input that cannot be used."""


class DataError(ValueError):
    """A user's value, file or column is unusable; the message is one sentence that says where and what to do."""
