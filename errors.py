"""The one family of errors that RefHCM raises for bad input: one sentence that names the cause and the cure."""


class RefHCMError(ValueError):
    """Wrong input or a missing piece; the message is a sentence for the user, safe to print without a traceback."""


class UsageError(RefHCMError):
    """A command was called in a way that makes no sense."""


class MissingExtraError(RefHCMError, ImportError):
    """An optional library is not installed; the message names the extra that brings it."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(
            f"{library} is not installed; in the folder of RefHCM, install it with: pip install -e '.[{extra}]'"
        )
        self.library, self.extra = library, extra

    def __reduce__(self) -> tuple:
        """Errors cross from worker processes with the arguments they were made of."""
        return type(self), (self.library, self.extra)
