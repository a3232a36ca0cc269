"""What a run is given, checked and made to fit: the teacher, real images, attacks."""
