"""The errors that end a run: one the user must fix, one in a stage, and its special case of a disk."""

__all__ = ["DiskError", "StageError", "UserError"]


class UserError(Exception):
    """An error in the user's files or settings: the message is printed without a traceback, exit code 2."""


class StageError(Exception):
    """A failed stage: its message is printed without a traceback, finished stages stay, exit code 1."""


class DiskError(StageError):
    """A stage failed because a disk is full or read-only. Another machine may have another disk."""
