"""The process among others: its start, its parent, its memory, its log, its end."""
