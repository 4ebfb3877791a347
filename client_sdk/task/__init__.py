"""What is learnt: the networks and their files, the local training loop, the evaluation."""
