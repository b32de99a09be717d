"""How a model comes to be: data sets, recipes, the loop, evaluation, the pictures of a run.

Imports `models`; knows nothing of HTTP.
"""
