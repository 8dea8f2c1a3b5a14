"""The error whose message is written for the user."""


class ClusterError(Exception):
    """Something the user can mend; the command line prints it without a traceback and exits with 2."""


class RayGoneError(Exception):
    """The cluster is gone, and all that can be written and said is: the process must end with `code`, without Ray.

    Not by an ordinary exit, for Ray's own clean-up would then hang or abort.
    """

    def __init__(self, code: int) -> None:
        super().__init__("the Ray cluster is gone; this process cannot use Ray any more")
        self.code = code
