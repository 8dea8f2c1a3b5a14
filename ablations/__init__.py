"""Ablation matrices: YAML files, their expansion into cells, statistics, plots and the report."""
