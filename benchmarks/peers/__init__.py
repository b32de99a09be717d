"""Other servers of models, each with the same MLP: `python -m benchmarks.serving --peers`."""
