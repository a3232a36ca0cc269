"""Which logit stands for which class: by name, by number, or by order, which is then said."""

import numpy as np
import pytest
from PIL import Image

from dfshield.classifiers import build
from dfshield.config import Config
from dfshield.datasets import ImageSet, load_images
from dfshield.errors import InputError
from dfshield.runs.inputs.class_matching import match_classes, unnamed
from dfshield.runs.inputs.evaluation_images import real_images
from dfshield.runs.inputs.real_data import fitted

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGITS = load_images("digits")


def write_folder(root, names, *, per_class=2):
    """A folder of digits whose classes are called by these names; digit k by ``names[k]``."""
    for digit, name in enumerate(names):
        rows = np.flatnonzero(DIGITS.labels == digit % 10)[:per_class]
        (root / name).mkdir(parents=True)
        for row in rows:
            pixels = (DIGITS.pixels[row, :, :, 0] * 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{row}.png")
    return root


def image_set(names, *, labels=None, name="folder", named=True):
    labels = np.arange(len(names)) if labels is None else np.array(labels)
    pixels = np.zeros((len(labels), 8, 8), np.uint8)
    return ImageSet(pixels, labels, tuple(names), name, "test", named=named)


def logits_of(data, names, **options):
    return match_classes(image_set(data, **options), names, key="evaluation.data").logits


def remark_of(data, names, **options):
    return match_classes(image_set(data, **options), names, key="evaluation.data").remark


def test_a_folder_of_names_gives_the_labels_of_the_classifier(tmp_path):
    folder = load_images("folder", path=write_folder(tmp_path, WORDS))
    classifier = build(
        "dfshield:resnet8", options={"width": 8}, input_shape=(1, 8, 8), class_names=WORDS
    )
    images = fitted(folder, classifier, key="evaluation.data")
    assert images.class_names == WORDS
    shown = {
        pixels.tobytes(): label for pixels, label in zip(images.pixels, images.labels, strict=True)
    }
    for digit in range(10):
        row = np.flatnonzero(DIGITS.labels == digit)[0]
        assert shown[(DIGITS.pixels[row] * 255).astype(np.uint8).tobytes()] == digit


@pytest.mark.parametrize("template", ["{}", "{:02}", "class_{}", "c{} x"])
def test_numbers_in_folder_names_count_by_value(tmp_path, template):
    names = [template.format(number) for number in range(12)]
    images = load_images("folder", path=write_folder(tmp_path, names, per_class=1))
    assert images.class_names == tuple(names)
    first = {label: int(images.pixels[images.labels == label][0].sum()) for label in range(12)}
    for label in range(12):
        row = np.flatnonzero(DIGITS.labels == label % 10)[0]
        assert first[label] == (DIGITS.pixels[row] * 255).astype(np.uint8).sum()


def test_the_validation_split_does_not_depend_on_the_order_of_classes(tmp_path):
    numbers = write_folder(tmp_path / "numbers", [str(k) for k in range(12)], per_class=5)
    letters = write_folder(tmp_path / "letters", list("acdefghijklb"), per_class=5)
    # 0, 1, 10, 11, 2 ... and a, b, c, d ... take the same rows: what was split stays split so.
    sizes = [len(load_images("folder", split="val", path=p)) for p in (numbers, letters)]
    assert sizes == [6, 6]


def test_npz_names_are_matched_by_name(tmp_path):
    path, order = tmp_path / "a.npz", np.random.default_rng(0).permutation(10)
    labels = np.argsort(order)[DIGITS.labels]
    names = np.array([WORDS[k] for k in order])
    np.savez(path, images=DIGITS.pixels, labels=labels, class_names=names)
    found = load_images("npz", path=path)
    match = match_classes(found, WORDS, key="evaluation.data")
    assert match.remark is None
    assert (np.array(match.logits)[found.labels] == DIGITS.labels).all()


@pytest.mark.parametrize(
    ("data", "names", "logits"),
    [
        (("b", "a"), ("a", "b"), (1, 0)),
        (("c", "a"), ("a", "b", "c"), (2, 0)),
        (tuple("0123456789"), WORDS, tuple(range(10))),
        (("0", "2", "5"), unnamed(10), (0, 2, 5)),
        (("00", "01", "02"), unnamed(3), (0, 1, 2)),
        (("1", "2", "3"), ("1", "2", "3"), (0, 1, 2)),
        (("3", "1", "2"), ("1", "2", "3"), (2, 0, 1)),
        (("10", "9"), tuple(map(str, range(12))), (10, 9)),
    ],
)
def test_names_by_name_and_numbers_by_value_need_no_word(data, names, logits):
    assert logits_of(data, names) == logits
    assert remark_of(data, names) is None


def test_names_that_differ_in_spelling_are_matched_and_said():
    data = ("Maple Tree", "dog", "wolf-hound")
    names = ("wolf hound", "maple_tree", "DOG")
    assert logits_of(data, names) == (1, 2, 0)
    assert "Maple Tree = maple_tree" in remark_of(data, names)


@pytest.mark.parametrize("name", ["folder", "npz"])
def test_order_is_said_where_it_is_all_there_is(name):
    assert logits_of(("cat", "dog"), unnamed(2), name=name) == (0, 1)
    assert "by their order alone" in remark_of(("cat", "dog"), unnamed(2), name=name)
    assert "logit 1 = dog" in remark_of(("cat", "dog"), unnamed(2), name=name)


def test_known_sets_have_one_order():
    cifar = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )
    short = ("plane", "car", *cifar[2:])
    assert remark_of(cifar, unnamed(10), name="cifar10") is None
    assert logits_of(cifar, short, name="cifar10") == tuple(range(10))
    assert "plane" in remark_of(cifar, short, name="cifar10")
    stl = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
    with pytest.raises(InputError, match="automobile, frog"):
        logits_of(cifar, stl, name="cifar10")
    with pytest.raises(InputError, match="10 classes, the classifier has 12"):
        logits_of(tuple("0123456789"), unnamed(12), name="digits")


@pytest.mark.parametrize(
    ("data", "names", "said"),
    [
        (("cat", "yak"), ("cat", "dog"), "yak.*dog.*teacher.class_names"),
        (("cat", "dog", "yak"), ("cat", "dog"), "yak"),
        (("cat", "dog"), unnamed(3), "2 classes .cat, dog., the classifier has 3.*class_names"),
        (("1", "2", "3"), unnamed(3), "from 1 to 3.*0 to 2"),
        (("01", "02", "03"), ("a", "b", "c"), "from 1 to 3"),
        (("0", "1"), ("3", "5"), "0, 1"),
        (("0", "7"), ("a", "b", "c"), "2 classes .0, 7., the classifier has 3"),
        (("Cat", "cat "), ("cat", "dog"), "two ways"),
        (("cat", "dog"), ("cat", "cat"), "cat stands there twice"),
    ],
)
def test_classes_that_differ_are_refused_by_name(data, names, said):
    with pytest.raises(InputError, match=said) as caught:
        logits_of(data, names)
    assert str(caught.value).startswith("evaluation.data: ")
    assert "\n" not in str(caught.value)


def test_labels_without_names_are_logits():
    labels = [0, 3, 8]
    for names in (unnamed(10), WORDS, tuple("9876543210")):
        found = logits_of(unnamed(9), names, labels=labels, name="npz", named=False)
        assert found == tuple(range(9))
    with pytest.raises(InputError, match=r"from 1 to 10.*subtract 1"):
        logits_of(unnamed(11), WORDS, labels=range(1, 11), name="npz", named=False)
    with pytest.raises(InputError, match="11 classes, the classifier has 10"):
        logits_of(unnamed(11), WORDS, labels=range(11), name="npz", named=False)


def test_a_name_stands_for_one_class():
    with pytest.raises(InputError, match='"cat" stands there twice'):
        image_set(("cat", "dog", "cat"))


def settings(path, **teacher):
    source = {"source": "dfshield:resnet8", "weights": "w.pt", **teacher}
    data = {"name": "folder", "path": str(path)}
    return Config.model_validate({"name": "x", "teacher": source, "evaluation": {"data": data}})


def test_what_is_assumed_stands_in_the_data_of_a_result(tmp_path):
    write_folder(tmp_path, WORDS)
    # As `evaluate --model` builds it: with the names of the images, since nobody gave others.
    classifier = build("dfshield:resnet8", input_shape=(1, 8, 8), class_names=tuple(sorted(WORDS)))
    (remark,) = real_images(settings(tmp_path), classifier, num_images=None).info.remarks
    assert "logit 0 = eight" in remark
    named = settings(tmp_path, class_names=sorted(WORDS))
    found = real_images(named, classifier, num_images=None)
    assert found.info.remarks == ()
    assert set(found.info.identity()) == {
        "name",
        "split",
        "fingerprint",
        "num_images",
        "sampled_from",
        "sample_seed",
    }
