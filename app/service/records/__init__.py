"""Domain objects in and out of the document store; names of documents and blobs."""
