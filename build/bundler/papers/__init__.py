"""What a bundle says of itself: manifest, bill of materials, notices."""
