"""A file is replaced whole or not at all, whatever stops the writing."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from ssl_mi import atomic
from ssl_mi.callbacks.checkpoints import AtomicCheckpointIO
from ssl_mi.evaluation.measurement import Measurement, write_csv

ROOT = Path(__file__).parents[1]


@pytest.fixture(params=["temporary", "another filesystem"])
def folder(request, tmp_path):
    """Where a run keeps its files: on the filesystem of the temporary folder, or on another one."""
    if request.param == "temporary":
        yield tmp_path
        return
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == Path(tempfile.gettempdir()).stat().st_dev:
        pytest.skip("there is one filesystem only")
    with tempfile.TemporaryDirectory(dir=other) as name:
        yield Path(name)


def kept(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_there_and_nothing_else(folder):
    for content, found in (("Zürich\n", "Zürich\n".encode()), (b"ab", b"ab"), (memoryview(b"xyz"), b"xyz")):
        assert atomic.write(folder / "a" / "report.md", content).read_bytes() == found
    assert kept(folder / "a") == ["report.md"]


WRITE_SLOWLY = """
import os, sys, time
from ssl_mi import atomic
def wait(handle):
    print("writing", flush=True)
    time.sleep(60)
atomic.os.fsync = wait
atomic.write(sys.argv[1], b"new" * 1000)
"""

SAVE_FOR_EVER = """
import sys, torch
from ssl_mi.callbacks.checkpoints import AtomicCheckpointIO
save = AtomicCheckpointIO().save_checkpoint
for step in range(1, 10**6):
    save({"step": step, "w": torch.full((10_000_000,), float(step))}, sys.argv[1])
    print(step, flush=True)
"""


@contextmanager
def in_a_process(code, *arguments):
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_process_killed_while_it_writes_leaves_the_old_file_and_what_it_wrote_is_swept_up(folder):
    target = folder / "last.ckpt"
    target.write_bytes(b"old")
    with in_a_process(WRITE_SLOWLY, target) as process:
        assert process.stdout.readline() == "writing\n"
        assert atomic.remove_orphans(folder) == []  # it is being written
        assert target.read_bytes() == b"old"
    assert process.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old"
    assert len(kept(folder)) == 2
    assert len(atomic.remove_orphans(folder)) == 1
    assert kept(folder) == ["last.ckpt"]


def test_a_checkpoint_is_whole_whenever_its_process_is_killed(folder):
    target = folder / "last.ckpt"
    with in_a_process(SAVE_FOR_EVER, target) as process:
        first = int(process.stdout.readline())
        size, end = target.stat().st_size, time.monotonic() + 3
        # Killed as soon as the file is seen to be anything but whole; or after some more of them.
        while time.monotonic() < end and target.exists() and abs(target.stat().st_size - size) < 1000:
            pass
    found = torch.load(target, weights_only=True)
    assert found["step"] >= first
    assert torch.equal(found["w"], torch.full((10_000_000,), float(found["step"])))


class FullDisk:
    """A file that takes k bytes."""

    def __init__(self, file, k):
        self.file, self.left = file, k

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data):
        self.file.write(data[: self.left])
        if len(data) > self.left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def full_disk(monkeypatch):
    """k -> from now on a file beside its target takes k bytes."""

    def fill(k):
        opened = Path.open

        def scarce(path, *arguments, **options):
            file = opened(path, *arguments, **options)
            return FullDisk(file, k) if path.name.startswith(atomic.PREFIX) else file

        monkeypatch.setattr(Path, "open", scarce)

    return fill


@pytest.mark.parametrize("k", [0, 10, 1999])
def test_a_full_disk_leaves_the_old_file_and_says_what_it_needs(folder, full_disk, k):
    target = atomic.write(folder / "report.json", b"old")
    full_disk(k)
    with pytest.raises(OSError, match=r"No space left on device: cannot write .*report\.json.*2,000 bytes.*kept") as e:
        atomic.write(target, b"n" * 2000)
    assert e.value.errno == errno.ENOSPC
    assert target.read_bytes() == b"old"
    assert kept(folder) == ["report.json"]


def test_a_checkpoint_on_a_full_disk_leaves_the_one_before(folder, full_disk):
    target = folder / "last.ckpt"
    io = AtomicCheckpointIO()
    io.save_checkpoint({"step": 1, "w": torch.zeros(10)}, target)
    full_disk(500)
    with pytest.raises(OSError, match=r"cannot write .*last\.ckpt.*bytes"):
        io.save_checkpoint({"step": 2, "w": torch.zeros(10_000)}, str(target))
    assert torch.load(target, weights_only=True)["step"] == 1


def test_a_small_filesystem_that_is_really_full(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting is not permitted")
    try:
        target = disk / "last.ckpt"
        AtomicCheckpointIO().save_checkpoint({"step": 1, "w": torch.zeros(100_000)}, target)
        with pytest.raises(OSError, match=r"No space left on device: cannot write .*last\.ckpt, which needs 80\d,\d+"):
            AtomicCheckpointIO().save_checkpoint({"step": 2, "w": torch.zeros(200_000)}, target)
        assert torch.load(target, weights_only=True)["step"] == 1
        assert kept(disk) == ["last.ckpt"]
    finally:
        subprocess.run(["umount", disk], check=True)


def test_partial_files_of_other_machines_go_when_they_are_a_day_old(tmp_path):
    fresh, old = (tmp_path / f"{atomic.PREFIX}elsewhere.{n}.a.ckpt" for n in (1, 2))
    for path in (fresh, old):
        path.write_bytes(b"")
    os.utime(old, (time.time() - 2 * atomic.OLD,) * 2)
    assert atomic.remove_orphans(tmp_path) == [old]
    assert atomic.remove_orphans(tmp_path / "not there") == []


def test_a_table_of_measurements_is_kept_when_the_disk_is_full(folder, full_disk):
    path = folder / "mi.csv"
    row = Measurement("mi", 1, "val", "trained", "metric", "quantity", 1.5)
    write_csv(path, [row])
    before = path.read_bytes()
    full_disk(3)
    with pytest.raises(OSError, match=r"cannot write .*mi\.csv"):
        write_csv(path, [row, row])
    assert path.read_bytes() == before


def test_a_run_writes_its_checkpoints_so_and_sweeps_up_before(run, tmp_path):
    left = tmp_path / "run" / "checkpoints" / f"{atomic.PREFIX}{atomic._host()}.{os.getpid()}.last.ckpt"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    made = run("trainer.max_epochs=1")
    assert isinstance(made.trainer.strategy.checkpoint_io, AtomicCheckpointIO)
    assert kept(left.parent) == ["last.ckpt"]


def test_a_run_that_fills_the_disk_ends_with_one_line_and_keeps_its_last_checkpoint(run, full_disk, tmp_path, capfd):
    def at_epoch_2(made):
        from pytorch_lightning.callbacks import LambdaCallback

        def fill(trainer, module):
            if trainer.current_epoch == 1:
                full_disk(1000)

        made.trainer.callbacks.append(LambdaCallback(on_train_epoch_start=fill))

    with pytest.raises(OSError, match=r"No space left on device: cannot write .*last\.ckpt, which needs"):
        run("trainer.max_epochs=3", before=at_epoch_2)
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["epoch"] == 0
    assert "the report is not written" in capfd.readouterr().err
