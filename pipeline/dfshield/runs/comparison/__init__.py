"""Several surrogate data sets side by side: measured against real images, and in pictures."""
