"""The two ways a run can end early, told apart so that the user knows whose move it is."""

__all__ = ["StageError", "UserError"]


class UserError(Exception):
    """Something the user must change: printed as it is, without a traceback, exit code 2."""


class StageError(Exception):
    """A stage of a sound plan failed: what it said is printed, finished stages stay, exit code 1."""
