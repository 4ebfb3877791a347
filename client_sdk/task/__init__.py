"""What is learnt: the networks, the local training loop, how a model is measured."""
