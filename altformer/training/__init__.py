"""Training: its configuration, loss, learning-rate schedules, checkpoints and the loop."""
