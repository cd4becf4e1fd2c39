from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fake_gpu import MB, Costs

from whisper_server.inference.hardware.memory_plan import Dimensions, Load, Plan, matrix_bytes, plan
from whisper_server.inference.hardware.worker_plan import BATCH_SIZE
from whisper_server.inference.models.catalogue import PACKAGES, REPOSITORIES
from whisper_server.inference.models.packages import PackagedModels

# By OpenAI's and Hugging Face's model cards: width, layers of the encoder and the decoder, millions of parameters.
SIZES = {
    "tiny": (384, 4, 4, 39),
    "base": (512, 6, 6, 74),
    "small": (768, 12, 12, 244),
    "medium": (1024, 24, 24, 769),
    "large-v1": (1280, 32, 32, 1550),
    "large-v2": (1280, 32, 32, 1550),
    "large-v3": (1280, 32, 32, 1550),
    "large": (1280, 32, 32, 1550),
    "large-v3-turbo": (1280, 32, 4, 809),
    "turbo": (1280, 32, 4, 809),
    "distil-small": (768, 12, 4, 166),
    "distil-medium": (1024, 24, 2, 394),
    "distil-large-v2": (1280, 32, 2, 756),
    "distil-large-v3": (1280, 32, 2, 756),
    "distil-large-v3.5": (1280, 32, 2, 756),
}
TYPES = ("float16", "int8_float16", "int8")
CARD = Load(on_card=True, batch=BATCH_SIZE)
BUDGETS = [quarter * 250_000_000 for quarter in range(4, 97)]

CHILD = """
import gc, sys
from pathlib import Path
from whisper_server.inference.hardware.device import Device
from whisper_server.inference.hardware.malloc import keep_freed_memory
from whisper_server.inference.models.loader import ModelLoader
from whisper_server.inference.hardware.autotune import Tuner
from whisper_server.inference.hardware.worker_plan import Wanted
name, directory, compute_type, workers = sys.argv[1:]
keep_freed_memory()
device = Device("cpu")
tuner = Tuner(device, compute_type, Wanted(int(workers), 2), cache=Path("unused"), measure=False)
loader = ModelLoader(tuner)
before = device.used_bytes()
model = loader.load(name, Path(directory))
model.wait_until_improved()
print(device.used_bytes() - before)
model.close()
"""


def model_of(name: str) -> Dimensions:
    width, encoder, decoder, _ = SIZES[name.removesuffix(".en")]
    return Dimensions(width, encoder, decoder, mels=128 if "v3" in name else 80)


def costs_of(name: str) -> Costs:
    _, _, decoder, millions = SIZES[name.removesuffix(".en")]
    return Costs(millions * 1e6, decoder)


@pytest.fixture(scope="module", params=["tiny.en", "base"])
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = PackagedModels(PACKAGES, cache_dir=tmp_path_factory.mktemp("cache")).find(request.param)
    assert found is not None
    return found


def test_dimensions_are_read_from_the_weights(directory: Path) -> None:
    model = Dimensions.read(directory / "model.bin")
    assert model is not None
    assert (model.width, model.encoder_layers, model.decoder_layers) in [(384, 4, 4), (512, 6, 6)]
    assert model.weights("float16") == pytest.approx((directory / "model.bin").stat().st_size, rel=0.01)


@pytest.mark.parametrize("content", [b"", b"no weights", b"\6\0\0\0" + b"\xff" * 100])
def test_what_is_no_model_has_no_dimensions(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.bin").write_bytes(content)
    assert Dimensions.read(tmp_path / "model.bin") is None


@pytest.mark.parametrize(
    ("compute_type", "batch", "published"),
    [("int8", 1, 2926), ("int8", 8, 4500), ("float16", 1, 4525), ("float16", 8, 6090)],
)
def test_published_figures_of_large_v2_are_met_from_above(compute_type: str, batch: int, published: int) -> None:
    needed = CARD.needed(model_of("large-v2"), compute_type, batch)
    assert published * MB <= needed <= 1.1 * published * MB


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("compute_type", ["int8", "float32"])
def test_what_is_predicted_for_a_cpu_is_what_it_takes(directory: Path, compute_type: str, workers: int) -> None:
    model = Dimensions.read(directory / "model.bin")
    assert model is not None
    command = [sys.executable, "-c", CHILD, "it", str(directory), compute_type, str(workers)]
    measured = int(subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=300).stdout)
    load = Load(on_card=False, batch=BATCH_SIZE, workers=workers, copies=workers)
    assert load.resident(model, compute_type) == pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize("name", REPOSITORIES)
def test_a_plan_that_fits_never_takes_more_than_there_is(name: str) -> None:
    for budget in BUDGETS:
        found = plan(model_of(name), CARD, TYPES, budget)
        assert found.fits == (found.needed <= budget)
        if found.fits:
            assert costs_of(name).peak(found.compute_type, found.batch) <= budget


@pytest.mark.parametrize("name", REPOSITORIES)
def test_more_memory_never_means_less(name: str) -> None:
    plans = [plan(model_of(name), CARD, TYPES, budget) for budget in BUDGETS]
    assert plans == sorted(plans, key=lambda found: (matrix_bytes(found.compute_type), found.compute_type != "int8"))
    for compute_type in TYPES:
        batches = [found.batch for found in plans if found.compute_type == compute_type]
        assert batches == sorted(batches)


def test_the_largest_runs_from_three_and_a_quarter_gigabytes() -> None:
    for budget in BUDGETS:
        assert plan(model_of("large-v3"), CARD, TYPES, budget).fits == (budget >= 3_250_000_000)


@pytest.mark.parametrize("name", ["tiny", "base.en"])
def test_small_models_run_in_a_gigabyte(name: str) -> None:
    assert plan(model_of(name), CARD, TYPES, 1_000_000_000).fits


def test_where_nobody_knows_what_is_free_the_best_is_tried() -> None:
    found = plan(model_of("large-v3"), CARD, TYPES, None)
    assert (found.compute_type, found.batch, found.fits) == ("float16", BATCH_SIZE, True)


def test_a_plan_says_why() -> None:
    found = plan(model_of("large-v3"), CARD, TYPES, 4_000_000_000)
    assert str(found).startswith("int8_float16 with batches of up to 4: 3.")
    assert str(found).endswith(" GB of 4.00 GB that are free; too large: float16 (4.76 GB)")
    assert "not enough" in str(Plan("int8", 1, 2, 1))
