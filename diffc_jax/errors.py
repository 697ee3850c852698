"""Errors that tell a user what to change; every front door prints them as one line, without a traceback."""


class DiffcError(Exception):
    """A mistake in the input. The message is one line that names the culprit and the fix."""

    exit_code = 1


class UsageError(DiffcError):
    """A flag or config value that cannot be used; the message starts with the field's name."""

    exit_code = 2


class InputError(DiffcError):
    """A file, folder or data set that cannot be used; the message names it."""


class PreemptedError(DiffcError):
    """No mistake: SIGTERM stopped a run, which is saved and goes on when its command is run again."""

    exit_code = 85
