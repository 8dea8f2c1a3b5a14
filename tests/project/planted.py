"""`altformer` as it is started in a test with secrets in its command line; and a model that says others when it fails.

The arguments in $PLANTED_ARGUMENTS (JSON) are part of the command line that is recorded, but no options: a command with
a secret in it that is accepted is hard to come by.
"""

from __future__ import annotations

import json
import os
import sys

from torch import Tensor

from tests.faults.models import Plain

VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "RAY_AUTH_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "DATABASE_URL")


class SaysSecrets(Plain):
    """Fails in its second training step with all that is secret in its environment, as an error of a client may."""

    def forward(self, reading: Tensor, observed: Tensor, time_of_day: Tensor, day_of_week: Tensor) -> Tensor:
        """(b,s,n) -> (b,h,n)."""
        forecast = super().forward(reading, observed, time_of_day, day_of_week)
        if self.steps < 2:  # the model is tried before the start
            return forecast
        said = " ".join(os.environ[name] for name in VARIABLES)
        raise RuntimeError(f"planted: cannot log in, {os.environ['PLANTED_TEXT']}\n{said} {os.environ['PLANTED_TEXT']}")


if __name__ == "__main__":
    from experiments.cli import main

    arguments = sys.argv[1:]
    sys.argv += json.loads(os.environ.get("PLANTED_ARGUMENTS", "[]"))
    sys.exit(main(arguments))
