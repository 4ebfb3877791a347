"""The parties' data: shards of a common set, or data of their own and what they declare of it."""
