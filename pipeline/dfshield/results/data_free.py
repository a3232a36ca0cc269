"""What is said of a student that was trained on real images: in every place the same."""

NOT_DATA_FREE = (
    "This student is a reference, not data-free: it was trained on real images "
    "(training.images), for comparison with students that were made from the teacher alone."
)
