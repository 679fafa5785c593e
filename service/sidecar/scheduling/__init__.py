"""Which texts of which requests are computed next, and by whom."""
