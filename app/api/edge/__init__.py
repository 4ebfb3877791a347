"""What every request passes and every answer carries, whatever its route."""
