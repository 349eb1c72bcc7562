"""The exceptions that reach a user as a sentence instead of a traceback."""


class UserError(Exception):
    """Bad input or a missing precondition.

    The message is one sentence or two: the value, what was expected, and the next step. The command line
    prints it and exits with ``exit_code``.
    """

    exit_code = 2


class StoppedError(UserError):
    """The user stopped a measurement; all that was measured is saved. The message says where, or how to go on."""

    exit_code = 130
