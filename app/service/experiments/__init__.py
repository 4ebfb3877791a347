"""The life of an experiment: created, started, paused, stopped, deleted; who may take part."""
