"""What a model is: architectures, cards, checkpoint files, preprocessing, the classifier.

Knows nothing of HTTP or of how a model is trained.
"""
