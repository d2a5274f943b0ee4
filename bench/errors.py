"""The two errors that end a run: one the user must fix, one in a stage."""

__all__ = ["StageError", "UserError"]


class UserError(Exception):
    """An error in the user's files or settings: the message is printed without a traceback, exit code 2."""


class StageError(Exception):
    """A failed stage: its message is printed without a traceback, finished stages stay, exit code 1."""
