"""Files of weights in the blob store: uploads, the coordinator's own files, and their readers."""
