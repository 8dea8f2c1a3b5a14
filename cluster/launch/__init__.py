"""Where nodes come from: a local cluster, and files for AWS, own machines, Kubernetes, SLURM and Docker."""
