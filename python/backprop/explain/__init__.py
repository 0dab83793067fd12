"""Training steps, gradient checks and descents, spelled out."""
