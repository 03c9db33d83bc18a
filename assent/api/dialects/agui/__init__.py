"""AG-UI 1.0: what its clients send, and a run as they follow it."""
