"""The ways in: AWS Lambda, Apache OpenWhisk, and a server. No platform's file imports another's.

`container` holds the parts that the serverless platforms share.
"""

import gc

# Imported modules never become garbage, and the search for garbage takes a tenth of a cold start.
gc.disable()  # until `Container` has opened the application
