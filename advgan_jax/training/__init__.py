"""States, pure training steps, and the host's loop around them."""
