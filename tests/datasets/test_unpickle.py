"""The allow-list unpickler: what it reads, and that nothing a file asks for is run."""

import builtins
import os
import pickle
import subprocess

import numpy as np
import pytest

from dfshield.datasets import load_images
from dfshield.datasets.unpickle import read_pickled_dict
from dfshield.errors import InputError


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
        np.linspace(0, 1, 5, dtype=np.float32),
        np.arange(4, dtype=">i2"),
        np.array([True, False]),
    ],
)
def test_reads_arrays_and_plain_values(tmp_path, protocol, array):
    content = {
        "array": array,
        "list": [1, -2, 2**40],
        "text": "ä",
        "bytes": b"\xff\0",
        "dict": {"a": 1},
    }
    (tmp_path / "a").write_bytes(pickle.dumps(content, protocol=protocol))
    read = read_pickled_dict(tmp_path / "a")
    numbers = read.pop("array")
    assert numbers.dtype == array.dtype
    assert np.array_equal(numbers, array)
    content.pop("array")
    assert read == content


def test_reads_what_python_2_wrote(tmp_path):
    # {'data': numpy.arange(6, dtype=numpy.uint8).reshape(2, 3), 'labels': [3, 4]}, as Python 2 and
    # NumPy 1 spell it: byte strings (opcode U) and the module name numpy.core.multiarray.
    program = (
        b"\x80\x02}q\x00(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        b"K\x00\x85U\x01b\x87R(K\x01K\x02K\x03\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x06\x00\x01\x02\x03\x04\x05tb"
        b"U\x06labels](K\x03K\x04eu."
    )
    assert pickle.loads(program, encoding="latin1")["labels"] == [3, 4]  # noqa: S301
    (tmp_path / "a").write_bytes(program)
    read = read_pickled_dict(tmp_path / "a")
    assert read["data"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert read["data"].dtype == np.uint8
    assert read["labels"] == [3, 4]


class Call:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("function", "named"),
    [
        (os.system, r"(posix|nt)\.system"),
        (builtins.eval, r"(builtins|__builtin__)\.eval"),
        (builtins.getattr, r"(builtins|__builtin__)\.getattr"),
        (subprocess.check_call, r"(subprocess|commands)\.check_call"),
        (np.load, r"numpy\.load"),
    ],
)
def test_a_hostile_pickle_is_refused_without_running(tmp_path, protocol, function, named):
    trace = tmp_path / "ran"
    arguments = {
        "eval": (f"open({str(trace)!r}, 'w')",),
        "system": (f"touch {trace}",),
        "check_call": (["touch", str(trace)],),
    }.get(function.__name__, (str(trace), "x"))
    content = {"data": np.zeros((1, 3072), np.uint8), "labels": [Call(function, *arguments)]}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(content, protocol=protocol))
    with pytest.raises(
        InputError, match=f"refused, the pickle wants '.*{named}': only arrays"
    ) as caught:
        load_images("cifar10", path=tmp_path)
    assert str(tmp_path / "test_batch") in str(caught.value)
    assert not trace.exists()


@pytest.mark.parametrize(
    "content",
    [
        {"data": np.array([{}, 1], dtype=object)},
        {"data": np.array(["a"])},
        {"data": np.zeros(2, dtype=[("a", "u1")])},
        {"data": np.zeros(2, dtype="M8[s]")},
        {"data": np.zeros(2, dtype=complex)},
    ],
)
def test_arrays_of_other_things_than_numbers_are_refused(tmp_path, content):
    (tmp_path / "a").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(InputError, match="a: cannot be read as a pickled batch"):
        read_pickled_dict(tmp_path / "a")


def test_number_types_cannot_be_changed_into_pointers(tmp_path):
    # NumPy believes the flags a pickled dtype claims, so bytes could pass for object pointers.
    program = (
        b"\x80\x02}U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        b"K\x00\x85U\x01b\x87R(K\x01K\x01\x85cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08AAAAAAAAtbs."
    )
    (tmp_path / "a").write_bytes(program)
    with pytest.raises(InputError, match=r"an array of type \|O8"):
        read_pickled_dict(tmp_path / "a")


def test_outside_objects_and_other_codecs_are_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"\x80\x02}U\x01aU\x01xQs.")
    with pytest.raises(InputError, match="refers to an outside object"):
        read_pickled_dict(tmp_path / "a")
    (tmp_path / "a").write_bytes(
        b"\x80\x02}U\x01ac_codecs\nencode\nX\x01\x00\x00\x00xX\x05\x00\x00\x00rot13\x86Rs."
    )
    with pytest.raises(InputError, match="bytes written as rot13"):
        read_pickled_dict(tmp_path / "a")


def test_damaged_pickles_give_one_line(tmp_path):
    file = tmp_path / "test_batch"
    content = {
        "data": np.zeros((3, 3072), np.uint8),
        "labels": [1, 2, 3],
        "filenames": [b"a", b"b"],
    }
    whole = pickle.dumps(content, protocol=2)
    rng = np.random.default_rng(0)
    damaged = [whole[:cut] for cut in [0, 1, 5, 40, 100, 1000, len(whole) - 1]]
    header = [k for k in range(len(whole)) if k < 120 or k > len(whole) - 120]
    for _ in range(500):
        changed = bytearray(whole)
        changed[rng.choice(header)] = rng.integers(256)
        damaged.append(bytes(changed))
    messages = []
    for one in damaged:
        file.write_bytes(one)
        try:
            load_images("cifar10", path=tmp_path)
        except InputError as error:
            messages.append(str(error))
    assert len(messages) >= 100
    assert all(str(file) in one and "\n" not in one for one in messages)
