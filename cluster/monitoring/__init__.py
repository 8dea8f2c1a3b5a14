"""What watches a Ray cluster from outside: Prometheus, and Grafana's files."""
