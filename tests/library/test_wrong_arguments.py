"""What is wrong in a call of the library is one line that names it, and leaves no trace."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import copy, json, torch
from dfshield.errors import InputError
from wrong_arguments import CALLS, NET

def said(call):
    try:
        call()
    except InputError as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}\\n"
    return "nothing\\n"

weights = copy.deepcopy(NET.state_dict())
said_of = {key: [said(call) for call in calls] for key, calls in CALLS.items()}
assert all(torch.equal(value, weights[name]) for name, value in NET.state_dict().items())
assert all(weight.requires_grad and weight.grad is None for weight in NET.parameters())
assert not any(module.training for module in NET.modules())
print(json.dumps(said_of))
"""


def test_every_wrong_argument_is_one_line_that_names_it():
    """In a process of its own: here the shape checks would refuse most of it before the library."""
    place = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        check=True,
        capture_output=True,
        text=True,
        cwd=place,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    said = json.loads(done.stdout.splitlines()[-1])
    assert sum(map(len, said.values())) > 140
    bad = {
        f"{key}[{place}]": line
        for key, lines in said.items()
        for place, line in enumerate(lines)
        if key not in line or "\n" in line or len(line) > 600
    }
    assert not bad
