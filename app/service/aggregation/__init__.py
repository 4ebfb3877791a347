"""How a round's updates become the next model, in steps that any process can go on with."""
