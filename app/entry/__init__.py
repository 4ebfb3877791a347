"""Entries for platforms that are not servers. One file a platform; none knows another.

What they share is in `container`.
"""

import gc

# Of what is imported nothing ever becomes garbage: to look for it takes a tenth of a cold start.
gc.disable()  # until `Container` has opened the application
