"""Recording runs in MLflow, without ever waiting for it."""
