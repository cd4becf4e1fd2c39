"""What a run measures with: the device, the models and how much of everything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.card.gpu_memory import GpuMemory
from benchmarks.card.results import NEEDS_CARD, Row

# Random weights never end a text by themselves, so that every window takes the same work.
_FIXED_WORK = {"temperature": "0", "without_timestamps": "true", "condition_on_previous_text": "false"}


@dataclass(frozen=True)
class Scale:
    """How much is measured. `seconds` is the length of each measurement that has no natural end."""

    shapes: tuple[str, ...]
    types: tuple[str, ...]
    speed_types: tuple[str, ...]
    batches: tuple[int, ...]
    clients: tuple[int, ...]
    limits: tuple[str, ...]
    sessions: tuple[int, ...]
    allocators: tuple[str, ...]
    seconds: float
    live_seconds: float
    tokens: int
    rounds: int
    encoder_window: str = "full"


CARD = Scale(
    shapes=("large-v3-turbo", "large-v3"),
    types=("float16", "int8_float16", "int8"),
    speed_types=("float16", "bfloat16", "int8_float16", "int8", "float32"),
    batches=(1, 8, 16),
    clients=(1, 8, 32),
    limits=("3.25G", "4G", "6G", "8G", "24G"),
    sessions=(1, 8, 32),
    allocators=("cub_caching", "cuda_malloc_async"),
    seconds=60,
    live_seconds=60,
    tokens=40,
    rounds=2,
)
DRY = Scale(
    shapes=("tiny",),
    types=("int8",),
    speed_types=("int8", "float32"),
    batches=(2,),
    clients=(1, 2),
    limits=("600M",),
    sessions=(1,),
    allocators=("cub_caching",),
    seconds=2,
    live_seconds=3,
    tokens=5,
    rounds=1,
    encoder_window="adaptive",
)


@dataclass(frozen=True, slots=True)
class Model:
    """Random weights decode to meaningless text, so `random` says that no text may be checked."""

    name: str
    path: str
    random: bool


@dataclass(frozen=True)
class Bench:
    """`folder` has the models and clips that were made; `real` are names and directories of real weights."""

    device: str
    folder: Path
    scale: Scale
    real: tuple[str, ...]

    @cached_property
    def memory(self) -> GpuMemory:
        return GpuMemory(self.device)

    @property
    def on_gpu(self) -> bool:
        return self.device != "cpu"

    @property
    def random_models(self) -> list[Model]:
        return [Model(f"{shape}, random", str(self.folder / "models" / shape), True) for shape in self.scale.shapes]

    @property
    def real_models(self) -> list[Model]:
        return [Model(Path(name).name, name, False) for name in self.real]

    @property
    def largest(self) -> Model:
        """The last of the shapes, for the steps that measure one model only."""
        return self.random_models[-1]

    @property
    def clips(self) -> list[Path]:
        """Clips of English speech with 5 to 11 s each."""
        return sorted((self.folder / "clips").glob("*.wav"))

    def fields(self, model: Model, *, beam: int = 5) -> dict[str, str]:
        """The form fields of a request to the server."""
        common = {"language": "en", "beam_size": str(beam), "best_of": "1"}
        window = {"encoder_window": self.scale.encoder_window} if model.random else {}
        return {**common, **self.decoding(model), **window}

    def decoding(self, model: Model) -> dict[str, str]:
        """The options that make all windows take the same work."""
        return {**_FIXED_WORK, "max_new_tokens": str(self.scale.tokens)} if model.random else {}

    def on_card(self, what: str, figures: Mapping[str, object], *, goal: str, holds: bool) -> Row:
        """A row whose goal can be judged on a card only."""
        if self.memory.measurable:
            return Row(what, figures, goal, holds)
        return Row(what, figures, goal, None, NEEDS_CARD)
