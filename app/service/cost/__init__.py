"""What an experiment costs on a serverless platform, derived from its records."""
