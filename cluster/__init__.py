"""How runs get machines and how they are recorded: Ray, trials, schedulers, MLflow; knows no traffic."""
