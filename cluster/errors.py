"""The error whose message is written for the user."""


class ClusterError(Exception):
    """Something the user can mend; the command line prints it without a traceback and exits with 2."""
