"""Errors that tell a user what to change; every program prints them as one line, without a traceback."""


class DiffcError(Exception):
    """A mistake in the input. The message is one line that names the culprit and the fix."""

    exit_code = 1

    def __init__(self, message: str):
        super().__init__(" ".join(message.splitlines()))


class UsageError(DiffcError):
    """A flag or config value that cannot be used; its text is "field: message".

    Attributes:
        message: what is wrong and what to do about it.
        field: the config field, argument or flag, as far as the code that complains knows it; several are
            separated by ", ", and a flag may have its value behind it ("--workdir W"). May be empty.
    """

    exit_code = 2

    def __init__(self, message: str, field: str = ""):
        super().__init__(f"{field}: {message}" if field else message)
        self.message, self.field = message, field

    def in_group(self, group: str) -> "UsageError":
        """The same error, whose field belongs to `group`: "path" in "data.train" is "data.train.path"."""
        return UsageError(self.message, field=f"{group}.{self.field}" if self.field else group)


class InputError(DiffcError):
    """A file, folder or data set that cannot be used, or a package that is missing; the message names it."""


class PreemptedError(DiffcError):
    """No mistake: a run was stopped by a signal and is saved; it goes on when its command is run again."""

    exit_code = 85
