"""The use cases, a room for each subject. `coordinator.Coordinator` holds them all."""
