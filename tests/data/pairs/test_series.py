"""Windows of recordings: where they are, that a recording stays on one side, and what is refused."""

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from ssl_mi.data.pairs import ArrayView, Crop, PairViews, SeriesData, Window


def views(length=8, consecutive=False):
    ops = [Window(0, length), Window(1, length)] if consecutive else [Crop(length), Crop(length)]
    return PairViews([ArrayView([op]) for op in ops])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """ten/: recordings of 2 channels whose values are recording * 1000 + step."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ten").mkdir()
    for number in range(10):
        steps = np.arange(60 + number)
        np.save(tmp_path / "ten" / f"r{number}.npy", np.stack([1000.0 * number + steps, -steps]))
    return tmp_path


def made(**options):
    data = SeriesData(
        **{"x": "ten", "augmentation": views(), "batch_size": 4, "window": 8, "standardize": False, **options}
    )
    data.setup()
    return data


def whole(data, split):
    return next(data.batches(split, batch_size=1000))


def test_samples_are_stretches_of_a_recording_and_each_recording_is_on_one_side(folder):
    data = made(stride=10)
    seen = {}
    for split in ("train", "val", "test"):
        x = whole(data, split).blocks[0]
        assert x.shape[1:] == (2, 16)
        assert torch.equal(x[:, 0].diff(dim=1), torch.ones(len(x), 15))
        assert ((x[:, 0, 0] % 1000) % 10 == 0).all()  # every 10 steps
        seen[split] = set((x[:, 0, 0] // 1000).tolist())
    assert sum(map(len, seen.values())) == len(set.union(*seen.values())) == 10
    assert "recordings, each in one split. Rows of one group are alike" in data.describe()
    of = data.groups_of("test")
    recording = whole(data, "test").blocks[0][:, 0, 0] // 1000
    assert len(of) == len(recording)
    assert all((of[i] == of[j]) == (recording[i] == recording[j]) for i in range(len(of)) for j in range(len(of)))
    assert data.describe().endswith("2 channels x 16 steps")


def test_consecutive_windows_follow_each_other_and_random_ones_lie_inside(folder):
    data = made(augmentation=views(consecutive=True))
    first, second = data.views(whole(data, "train"), 0).views
    assert torch.equal(second[:, 0, 0], first[:, 0, -1] + 1)
    data = made()
    source = whole(data, "train")
    for view in data.views(source, 0).views:
        start = view[:, 0, 0] - source.blocks[0][:, 0, 0]
        assert ((start >= 0) & (start <= 8)).all()
        assert len(start.unique()) > 2


def test_channels_are_standardised_by_training_windows(folder):
    x = whole(made(standardize=True), "train").blocks[0].double()
    torch.testing.assert_close(x.mean((0, 2)), torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-4)
    torch.testing.assert_close(x.square().mean((0, 2)), torch.ones(2, dtype=torch.float64), rtol=1e-3, atol=0)


def test_tables_wav_files_and_pieces_are_recordings(folder):
    lines = ["subject,state,a,b", *(f"s{i // 40},{'xy'[i // 40 % 2]},{i % 40},{i}" for i in range(240))]
    (folder / "t.csv").write_text("\n".join(lines))
    data = made(x="t.csv", recording="subject", labels="state", span=10)
    assert data.class_names == ("x", "y")
    assert sorted(len(getattr(data, split)) for split in ("train", "val", "test")) == [4, 4, 16]  # 4 a subject
    (folder / "sounds").mkdir()
    for number in range(4):
        wavfile.write(folder / "sounds" / f"{number}.wav", 8000, np.full((32, 2), 2**14, dtype=np.int16))
    sound = whole(made(x="sounds/*.wav", window=8), "train").blocks[0]
    torch.testing.assert_close(sound, torch.full_like(sound, 2**14 / (2**15 - 1)))  # full scale is 1
    one = made(x="ten/r0.npy", pieces=3, batch_size=2, augmentation=views(4), window=4)
    assert sum(len(getattr(one, split)) for split in ("train", "val", "test")) == 6  # 20 steps a piece


def broken(folder):
    np.save(folder / "short.npy", np.zeros((5, 2, 9)))
    np.save(folder / "wrong.npy", np.zeros((500, 3)))
    holes = np.zeros((5, 2, 40))
    holes[3, 1, 7] = np.nan
    np.save(folder / "holes.npy", holes)
    np.save(folder / "other.npy", np.zeros((3, 60)))
    np.save(folder / "two.npy", np.arange(3))
    for number, rate in enumerate((8000, 16000, 8000)):
        wavfile.write(folder / f"rate{number}.wav", rate, np.zeros(50, dtype=np.int16))
    (folder / "text.wav").write_text("no sound")
    (folder / "empty").mkdir()
    (folder / "gap.csv").write_text("a,b\n" + "\n".join(f"{i},{'' if i == 4 else i}" for i in range(60)))


BAD = {
    "short": ({"x": "short.npy"}, r"5 of 5 recordings are shorter than a sample of data.span=16 steps, the first is "
              r"short.npy 0 with 9: .* data.window=4"),
    "one": ({"x": "ten/r1.npy"}, "1 recording cannot be split .* cut each with data.pieces=10"),
    "turned": ({"x": "wrong.npy"}, "500 channels of 3 steps: time is the last axis"),
    "gaps": ({"x": "holes.npy"}, "holes.npy 3 holds 1 values that are missing or infinite, the first in channel 1"),
    "channels": ({"x": ["ten", "other.npy"]}, r"different numbers of channels: 2 \(r0.npy\), 3 \(other.npy\)"),
    "rates": ({"x": "rate*.wav"}, r"different sampling rates: 8000 Hz \(rate0.wav\), 16000 Hz \(rate1.wav\)"),
    "no sound": ({"x": "text.wav"}, "data.x=text.wav: not a WAV file"),
    "no file": ({"x": "nothing.wav"}, "data.x=nothing.wav: there is no file"),
    "no match": ({"x": "*.wave"}, r"data.x=\*.wave: no file is like this"),
    "empty": ({"x": "empty"}, "data.x=empty: the folder holds no .npy"),
    "column": ({"x": "gap.csv"}, "column 'b' of gap.csv misses 1 of 60 values"),
    "labels": ({"labels": "two.npy"}, "data.labels=two.npy has 3 values for 10 recordings"),
    "window": ({"span": 4}, "data.window=8 is longer than data.span=4"),
    "count": ({"channels": 5}, "data.channels=5, but the recordings have 2"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_work_is_refused_in_one_line_that_names_it(folder, case):
    broken(folder)
    options, message = BAD[case]
    with pytest.raises((ValueError, OSError), match=message) as error:
        made(**options)
    assert "\n" not in str(error.value)
