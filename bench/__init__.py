"""The latency and load harness."""
