"""The start of a serverless container: no search for garbage until the application is open.

Imported modules never become garbage, and the search for garbage takes a tenth of a cold start. The
serverless entries import this module first. A server does not: it lives long.
"""

import gc

gc.disable()


def end() -> None:
    """Leave all that was imported out of later searches for garbage, and allow these again."""
    gc.freeze()
    gc.enable()
