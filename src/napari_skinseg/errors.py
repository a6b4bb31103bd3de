"""The two ways a verb stops early on purpose."""


class BadInput(ValueError):
    """What a person gave cannot be used.

    `str(error)` is one sentence that names the file or layer, says what is wrong and what to do about it. Faces show it
    as it is; any other exception that reaches a face is a bug of ours.
    """


class Cancelled(Exception):
    """The person asked to stop; everything that stood before the run still stands."""
