"""From bytes on a connection to answers: what is let in, read, and written."""
