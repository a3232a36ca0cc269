"""First light, stage ``group``: a world of one over the process group that a training has."""

from datetime import timedelta

import torch
import torch.distributed as dist
from stage import Stage
from subjects import bound, digest, images_of, milliseconds, network, training

from dfshield.training import SingleWorker, TorchWorkerGroup, WorkerGroup

BACKENDS = {"cuda": "cpu:gloo,cuda:nccl", "cpu": "gloo"}


def group(stage: Stage) -> None:
    """Train with and without the group; time what it sends."""
    device = bound(stage)
    if device.type == "cuda":
        torch.cuda.set_device(0)
    backend = BACKENDS[device.type]
    meeting = (stage.folder / "meeting").as_uri()
    dist.init_process_group(
        backend, init_method=meeting, rank=0, world_size=1, timeout=timedelta(seconds=30)
    )
    try:
        stage.note(backend=backend, found=str(dist.get_backend_config()))
        shared = TorchWorkerGroup()
        alone, together = (updated(stage, device, g) for g in (SingleWorker(), shared))
        stage.expect("a group of one trains like a worker alone", alone == together)
        buffer = torch.arange(1 << 20, dtype=torch.float64, device=device)
        before = buffer.clone()
        shared.all_reduce(buffer)
        stage.expect("a sum over one is what was there", torch.equal(buffer, before))
        gathered = shared.all_gather({"losses": torch.ones(5), "rank": 0})
        stage.expect("objects stay on the CPU", gathered[0]["losses"].device.type == "cpu")
        stage.note(
            all_reduce_8_mib_ms=milliseconds(lambda: shared.all_reduce(buffer), device, rounds=10),
            all_gather_ms=milliseconds(lambda: shared.all_gather([0] * 100), device, rounds=10),
        )
    finally:
        dist.destroy_process_group()


def updated(stage: Stage, device: torch.device, group: WorkerGroup) -> str:
    batch = max(2, stage.sizes.batch // 4)
    student = network(stage.sizes).to(device)
    trainer = training(student, images_of(stage.sizes, 1), batch=batch, num_batches=2, group=group)
    trainer.step()
    return digest(student.state_dict().values())
