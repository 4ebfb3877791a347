"""Files of weights in the blob store: uploads of clients, and files of the coordinator's own."""
