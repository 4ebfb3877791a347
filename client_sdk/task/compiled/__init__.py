"""The local loop as machine code. Only the engines import this room, and only `native` of it."""
