"""What an evaluation is asked for; `commands/` builds it from flags."""
from collections.abc import Mapping, Sequence
import dataclasses

from walt_jax.core import made_by as made_by_lib
from walt_jax.metrics import scores
from walt_jax.sampling import compiled_tokenizer
from walt_jax.sampling import settings


@dataclasses.dataclass(frozen=True)
class Measure:
  """How FVD, FID and IS are measured.

  Attributes:
    preprocessing: Way from pixels to the network's input; None: the protocol's,
      or the network's own.
    also: Scores beside, of `scores.BESIDE`.
    resamples: Bootstrap resamples of the interval; 0: no interval.
    num_splits: Splits of the Inception Score.
    real_split: Split of the real clips, where their path does not say so.
    given_frames: First frames of each clip that were given to the model; None:
      as their samples.json says, or none.
    save_statistics: File that gets the statistics of the real clips, or None.
  """
  preprocessing: str | None = None
  also: Sequence[str] = ()
  resamples: int = 0
  num_splits: int = scores.DEFAULT_SPLITS
  real_split: str | None = None
  given_frames: int | None = None
  save_statistics: str | None = None


@dataclasses.dataclass(frozen=True)
class Drawing:
  """How samples of a checkpoint are drawn.

  Attributes:
    num_samples: Samples of a set; None: as many as the protocol says.
    repeats: Sets of samples, of seeds S, S + 1, ..; None likewise.
    requests_file: JSON lines of prompts or labels, taken in turn; None: each
      class in turn.
    step: Checkpoint of the base; None: the newest.
    choice: Sampler, guidance and noise level of each stage.
    save_samples: `.npz` file that gets the samples of the first set, or None.
    mesh: Sizes of the axes of the mesh to draw on; None: the run's own.
  """
  num_samples: int | None = None
  repeats: int | None = None
  requests_file: str | None = None
  step: int | None = None
  choice: settings.SamplerChoice = settings.SamplerChoice()
  save_samples: str | None = None
  mesh: Mapping[str, int] | None = None


@dataclasses.dataclass(frozen=True)
class EvaluationRequest:
  """One score that is asked for.

  Attributes:
    metric: Its name.
    real: Path of the real clips or of their statistics, or None.
    generated: Path of the clips to score, or None.
    workdirs: Stages to draw samples from instead, base first; or a tokenizer.
    protocol: Name of the protocol.
    frames: First frames that are scored; None: as the protocol says, or all.
    network: Weight files of the feature network, joined by commas, or None.
    batch_size: Clips computed at once; None: by the devices.
    seed: Seed of the first set of samples, of subsets and resamples.
    allow_code: Whether the workdirs may name classes to import.
    cache: Folder of features and statistics; None: in the last workdir.
    lpips: Files of the backbone, and perhaps of the heads, of LPIPS; none
      leaves it out.
    chunks: What a tokenizer that is scored computes at once.
    measure: How it is measured.
    drawing: How samples are drawn.
    made_by: What the files of `save_statistics` and `save_samples` say of how
      they came to be.
  """
  metric: str
  real: str | None = None
  generated: str | None = None
  workdirs: Sequence[str] = ()
  protocol: str = 'quick'
  frames: int | None = None
  network: str | None = None
  batch_size: int | None = None
  seed: int = 0
  cache: str | None = None
  lpips: Sequence[str] = ()
  allow_code: bool = False
  chunks: compiled_tokenizer.Chunks = compiled_tokenizer.Chunks()
  measure: Measure = Measure()
  drawing: Drawing = Drawing()
  made_by: made_by_lib.MadeBy | None = None
