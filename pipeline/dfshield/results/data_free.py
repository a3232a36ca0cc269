"""What is said of students that were trained on real images: in every place the same."""

NOT_DATA_FREE = (
    "This student is a reference, not data-free: it was trained on real images "
    "(training.images), for comparison with students that were made from the teacher alone."
)
REFERENCE_MARK = "†"
SOME_NOT_DATA_FREE = (
    f"Students marked {REFERENCE_MARK} are references, not data-free: they were trained on real "
    "images (training.images), for comparison with students that were made from the teacher alone."
)
