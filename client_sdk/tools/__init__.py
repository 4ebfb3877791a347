"""What people do with a model: predict, export, verify."""
