"""Who may ask, and how: settings, routes, schemas, the registry of served models.

Imports `models`; trains nothing itself.
"""

__version__ = "0.2.0"
