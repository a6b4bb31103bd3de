"""The two exceptions that an action raises on purpose."""


class BadInput(ValueError):
    """An input of the user cannot be used.

    `str(error)` is one sentence that names the file or layer, says what is wrong and what to do. The plugin and the
    command line show this sentence. Any other exception is a bug in napari-skinseg.
    """


class Cancelled(Exception):
    """The user stopped the action; every file that existed before is unchanged."""
