"""A party's own data: read as the experiment's model describes them, and what is declared of it."""
