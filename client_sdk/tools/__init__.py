"""What is done with a model afterwards: predict, export, verify."""
