"""What a model is: architectures, cards, checkpoint files, preprocessing, the classifier.

Knows nothing of HTTP, of data sets or of how a model came to be.
"""
