"""What every API worker imports: workers are forks of a process that did, and share its memory."""

import gc

gc.disable()  # a collection would write to every page that is to be shared
import app.main  # noqa: E402, F401

gc.freeze()
gc.enable()
