"""What a stage says that is asked for by itself: where its result lies, also the second time."""

from tiny_run import run_of, succeed, write_config


def test_each_stage_says_where_its_result_lies(tmp_path):
    config = write_config(tmp_path)
    run = run_of(config)
    for stage, line in (
        ("teacher", f"Teacher: {run}/teacher"),
        ("synthesize", f"Surrogate images: {run}/synthetic"),
        ("train", f"Student: {run}/student"),
    ):
        for _ in range(2):
            assert succeed(stage, config).err.splitlines()[-1] == line


def test_a_teacher_with_given_weights_is_told_too(tiny, tmp_path):
    made = run_of(tiny(keep=("teacher",))) / "teacher" / "model.safetensors"
    teacher = {"source": "dfshield:resnet8", "options": {"width": 8}, "input_shape": [1, 8, 8]}
    given = {"teacher": {**teacher, "num_classes": 10, "weights": str(made)}}
    config = write_config(tmp_path / "given", **given, seeds=[3, 4])
    assert succeed("teacher", config).err.splitlines()[-1] == f"Teacher: {run_of(config)}/teacher"
    lines = succeed("synthesize", config).err.splitlines()
    wanted = [f"Surrogate images: {run_of(config)}/seed-{seed}/synthetic" for seed in (3, 4)]
    assert lines[-2:] == wanted
