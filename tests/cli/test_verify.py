"""`dfshield verify` and what mends what it finds."""

import json
import pickle

import pyarrow.parquet as pq
import pytest
from s3_server import BUCKET
from tiny_run import call, contents, run_of, stamps, succeed

import dfshield
from dfshield.errors import InputError
from dfshield.runs import InProcessExecutor, SilentMonitor
from dfshield.runs.lease import Lease
from dfshield.runs.verification import CheckTask
from dfshield.storage import Folder, SurrogateDataset, part_table, write_part


@pytest.fixture
def run(tiny):
    return run_of(tiny())


def data_of(run):
    return SurrogateDataset.open(Folder.at(run / "synthetic"))


def break_two(run):
    """Cut one part short and lose another."""
    cut, gone, _ = (run / "synthetic" / part.path for part in data_of(run).manifest.parts)
    cut.write_bytes(cut.read_bytes()[:-10])
    gone.unlink()


def forge(run, index=0):
    """Replace a part by one that verifies, with an image that the engine has not made."""
    data = data_of(run)
    part = data.manifest.parts[index]
    arrays = data.read(part)
    images = arrays.images.copy()
    images[3] = 1 - images[3]
    forged = type(arrays)(**{**vars(arrays), "images": images})
    (run / "synthetic" / part.path).unlink()
    write_part(data.folder, data.manifest, part, forged)
    return f"{part.path} image 3"


def test_what_is_broken_is_made_again_to_the_byte(run):
    before, expected = stamps(run / "synthetic"), contents(run / "synthetic")
    break_two(run)
    assert call("verify", run).code == 3
    answer = succeed("verify", run, "--repair")
    assert "3 of 3 parts verify" in answer.out
    assert contents(run / "synthetic") == expected
    kept = data_of(run).manifest.parts[2].path
    assert stamps(run / "synthetic")[kept] == before[kept]
    after = stamps(run)
    succeed("verify", run, "--repair")
    assert {n: s for n, s in stamps(run).items() if n != "events.jsonl"} == {
        n: s for n, s in after.items() if n != "events.jsonl"
    }


def test_parts_are_checked_by_workers_that_know_the_folder_alone(run):
    cut, gone, whole = data_of(run).manifest.parts
    break_two(run)
    task = pickle.loads(pickle.dumps(CheckTask(Folder.at(run / "synthetic").uri)))  # noqa: S301
    engine = InProcessExecutor().engine()
    done = InProcessExecutor().map(
        task, [[cut, gone], [whole]], engine=engine, monitor=SilentMonitor()
    )
    found = {each.unit: each.result for each in done}
    assert found[whole] is None
    assert found[gone] == "missing"
    assert "truncated or damaged" in found[cut]
    answer = call("verify", run, "--cluster", "none")
    assert (answer.code, answer.out.count("broken")) == (3, 2)
    assert "--repair makes again what is missing, broken" in answer.out


def test_a_run_that_was_moved_is_mended_where_it_is(run, tmp_path):
    moved = tmp_path / "else where" / "moved"
    moved.parent.mkdir()
    run.rename(moved)
    expected = contents(moved / "synthetic")
    break_two(moved)
    succeed("verify", moved, "--repair")
    assert contents(moved / "synthetic") == expected
    assert not run.exists()


def test_repair_needs_a_run(run):
    break_two(run)
    line = call("verify", run / "synthetic", "--repair").refusal()
    assert "--repair needs a run folder" in line


def test_a_sample_is_made_again_and_equal(run):
    answer = succeed("verify", run, "--resynthesize", "5")
    assert "5 images made again in" in answer.out
    assert ", 0 differ" in answer.out
    (report,) = json.loads(succeed("verify", run, "--resynthesize", "1000", "--json").out)
    assert report["resynthesis"]["num_images"] == 100
    assert report["resynthesis"]["num_batches"] == 5
    assert report["resynthesis"]["differing"] == []


def test_an_image_that_the_engine_has_not_made_is_named(run):
    name = forge(run)
    assert succeed("verify", run)
    answer = call("verify", run, "--resynthesize", "1000")
    assert answer.code == 3
    assert ", 1 differ" in answer.out
    assert name in answer.out


def test_an_image_that_the_engine_has_not_made_is_mended_if_asked(run):
    expected = contents(run / "synthetic")
    forge(run)
    answer = succeed("verify", run, "--resynthesize", "1000", "--repair")
    assert ", 0 differ" in answer.out
    assert contents(run / "synthetic") == expected


def test_a_driver_at_work_is_not_robbed_of_its_parts(run):
    forge(run)
    before = stamps(run / "synthetic")
    with Lease(Folder.at(run)):
        line = call("verify", run, "--resynthesize", "1000", "--repair").refusal()
    assert "another dfshield is at work here" in line
    assert stamps(run / "synthetic") == before


def test_a_run_on_a_store_is_mended(finished, s3):
    run = Folder.at(f"s3://{BUCKET}/runs/tiny?region=us-east-1")
    files = contents(run_of(finished / "tiny.yaml"))
    for name, content in files.items():
        run.write_bytes(name, content)
    data = SurrogateDataset.open(run.child("synthetic"))
    part = data.manifest.parts[0].path
    data.folder.write_bytes(part, files[f"synthetic/{part}"][:-10])
    answer = succeed("verify", run.uri, "--repair")
    assert "3 of 3 parts verify" in answer.out
    assert data.folder.read_bytes(part) == files[f"synthetic/{part}"]


def test_a_classifier_is_loaded_from_wherever_it_lies(run, s3):
    stored = Folder.at(f"s3://{BUCKET}/student")
    for name in ("config.json", "model.safetensors"):
        stored.write_bytes(name, (run / "student" / name).read_bytes())
    here = dfshield.load(run / "student")
    assert dfshield.load(stored.uri).fingerprint() == here.fingerprint()
    with pytest.raises(InputError, match=r"^s3://bucket/none: holds no classifier"):
        dfshield.load(f"s3://{BUCKET}/none")


def test_a_sample_skips_what_is_broken(run):
    break_two(run)
    answer = call("verify", run, "--resynthesize", "1000", "--json")
    assert answer.code == 3
    (report,) = json.loads(answer.out)
    assert report["resynthesis"]["num_images"] == 20
    assert report["resynthesis"]["differing"] == []


def test_another_engine_cannot_compare(run):
    file = run / "synthetic" / "data" / "shard=00000" / "part-0000.parquet"
    data = data_of(run)
    part = data.manifest.parts[0]
    engine = {**data.manifest.engine, "device": "cuda"}
    manifest = data.manifest.model_copy(update={"engine": engine})
    pq.write_table(part_table(manifest, part, data.read(part)), file)
    line = call("verify", run, "--resynthesize", "1000").refusal()
    assert "device: cuda → cpu" in line


def test_resynthesis_needs_the_teacher(run):
    line = call("verify", run / "synthetic", "--resynthesize", "5").refusal()
    assert "teacher" in line
    assert call("verify", run, "--resynthesize", "-1").code == 2
