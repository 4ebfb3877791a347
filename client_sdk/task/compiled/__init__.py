"""The local loop as machine code. Nothing outside knows more of it than `native`."""
