"""Single experiments: YAML files, the composition of altformer and cluster, and the command line."""
