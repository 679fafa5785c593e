"""The three locks: reading them, and refreshing them."""
