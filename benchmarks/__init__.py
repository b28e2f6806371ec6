"""What each part costs beside a textbook's: `python -m benchmarks.run`."""
