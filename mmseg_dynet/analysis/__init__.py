"""Measures of networks: cost, latency, pictures. They know modules, no configs."""
