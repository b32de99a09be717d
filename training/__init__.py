"""How a model is trained: data sets, recipes, the loop, evaluation, the report of a run.

Imports `models`; knows nothing of HTTP.
"""
