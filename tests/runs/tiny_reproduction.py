"""The scale smoke of `dfshield reproduce`, made as small as it goes."""

SMALL = (
    "cluster.address=none",
    "teacher.train.epochs=2",
    "synthesis.method.iterations=1",
    "synthesis.num_images=60",
    "synthesis.num_holdout=20",
    "synthesis.batch_size=20",
    "training.epochs=1",
    "training.batch_size=20",
    "training.inner.num_steps=1",
    "training.gradrefine.num_batches=2",
    "evaluation.num_images=20",
    "evaluation.attacks=[{name: pgd, num_steps: 10}]",
    "storage.part_size=20",
    "storage.shard_size=60",
)
