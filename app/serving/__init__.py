"""Answering predictions: the registry of loaded versions, the batcher, the encoder, evaluation."""
