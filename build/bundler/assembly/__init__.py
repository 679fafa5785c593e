"""Everything that decides the bytes of a bundle: its digest is part of every plan."""
