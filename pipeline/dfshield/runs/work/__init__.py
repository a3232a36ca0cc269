"""What workers do: making parts of the data set, training the student, attacking test images."""
