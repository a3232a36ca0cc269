"""First light, stage ``memory``: what running out of it says, and whether work can go on."""

import torch
from stage import LackingError, Stage
from subjects import bound, digest, inversion, network

TOO_MUCH = 1 << 60


def memory(stage: Stage) -> None:
    """Ask for more than there is, twice, and go on computing."""
    device = bound(stage)
    before = made(stage, device)
    stage.note(error=refused(lambda: torch.empty(TOO_MUCH, dtype=torch.uint8, device=device)))
    stage.expect("images after it", made(stage, device) == before)
    stage.attempt("in_use", lambda: filled(stage, device))
    stage.expect("images after a full GPU", made(stage, device) == before)
    stage.attempt("share", lambda: limited(stage, device))
    stage.expect("images with all of it again", made(stage, device) == before)


def made(stage: Stage, device: torch.device) -> str:
    teacher = network(stage.sizes).to(device)
    images = inversion(teacher, 2).synthesize(seed=0, batch=0, size=stage.sizes.batch).images
    return digest([images])


def refused(ask: object) -> dict[str, object]:
    try:
        ask()
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        return {
            "type": type(error).__name__,
            "out_of_memory": isinstance(error, torch.OutOfMemoryError),
            "message": str(error).splitlines()[0][:300],
        }
    raise AssertionError("so much was given")


def filled(stage: Stage, device: torch.device) -> dict[str, object]:
    """Take all memory in blocks, and give it back."""
    if device.type != "cuda":
        raise LackingError("main memory is not to be filled")
    blocks: list[torch.Tensor] = []
    free = torch.cuda.mem_get_info(device)[0]
    block = 1 << 30

    def take() -> None:
        while True:
            blocks.append(torch.empty(block, dtype=torch.uint8, device=device))

    found = refused(take)
    found["gib_taken"] = len(blocks)
    blocks.clear()
    torch.cuda.empty_cache()
    after = torch.cuda.mem_get_info(device)[0]
    found["gib_free_before_and_after"] = [round(free / 2**30, 2), round(after / 2**30, 2)]
    stage.expect("a full GPU is told as out of memory", found["out_of_memory"])
    stage.expect("what was taken is given back", after > free - (1 << 30))
    return found


def limited(stage: Stage, device: torch.device) -> dict[str, object]:
    """Let this process have a tenth of the memory, and ask for a fifth."""
    if device.type != "cuda":
        raise LackingError("there are no shares of main memory")
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(0.1, device)
    try:
        found = refused(lambda: torch.empty(total // 5, dtype=torch.uint8, device=device))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    stage.expect("a share of a GPU is kept to", found["out_of_memory"])
    return found
