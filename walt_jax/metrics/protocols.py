"""Evaluation protocols by name: what makes scores comparable."""
from collections.abc import Mapping
import dataclasses
from typing import Any, Literal

from walt_jax.core import errors
from walt_jax.core import moments as moments_lib
from walt_jax.metrics import frechet
from walt_jax.metrics import image_features
from walt_jax.metrics import video_features
from walt_jax.pretrained import c3d
from walt_jax.pretrained import i3d
from walt_jax.pretrained import inception


@dataclasses.dataclass(frozen=True)
class Draw:
  """How a protocol draws real clips of whole videos, anew for each set.

  Attributes:
    splits: Splits of the prepared set whose videos are taken.
    num_videos: How many they must be.
    order: 'epochs' are those of a training iterator, one clip of every video
      an epoch; 'names' is one clip of each of the first videos, by the names
      of their files.
    augment: Whether clips are cropped at random places and half of them
      mirrored, as in training.
    asks: What a sample is asked to show: the 'label' of the real clip of its
      number, a 'random label' of any video, or the former as a 'prompt'.
    at_sample_rate: Whether frames are taken at the samples' rate, not the
      video's own.
  """
  splits: tuple[str, ...]
  num_videos: int
  order: Literal['epochs', 'names'] = 'epochs'
  augment: bool = True
  asks: Literal['label', 'random label', 'prompt'] = 'label'
  at_sample_rate: bool = False


@dataclasses.dataclass(frozen=True)
class Protocol:
  """Conditions under which published scores were measured.

  Attributes:
    name: Name that `--protocol` takes.
    metric: 'fvd', 'fid', .., or None for any.
    num_generated: Samples a repeat, or None for any number.
    repeats: Independent sets of samples whose scores are averaged.
    num_real: Fewest real clips, or None for any number.
    real_split: Split of the real clips, or None for any.
    draw: How as many real clips as samples are drawn for each set; None takes
      the clips that are given, the same for all sets.
    frames: Frames scored, or None for any.
    size: Height and width of the frames, or None for any.
    given_frames: Number of first frames that the model was given.
    network: Name of the feature network, or None for any.
    preprocessing: Way from uint8 pixels to the network's input, or None for the
      network's default.
    covariance: Divisor of the covariances.
    root: Way to find the distance's root.
    also: Scores that are reported along with it.
    split_size: Samples in a split of the Inception Score reported with it.
    comparable_to: Published numbers that a result may be compared with.
  """
  name: str
  metric: str | None = None
  num_generated: int | None = None
  repeats: int = 1
  num_real: int | None = None
  real_split: str | None = None
  draw: Draw | None = None
  frames: int | None = None
  size: int | None = None
  given_frames: int = 0
  network: str | None = None
  preprocessing: str | None = None
  covariance: moments_lib.Covariance = 'unbiased'
  root: frechet.Root = 'eigh'
  also: tuple[str, ...] = ()
  split_size: int | None = None
  comparable_to: tuple[str, ...] = ()

  @property
  def is_strict(self) -> bool:
    """Whether it refuses sets of clips that differ; others warn."""
    return self.name not in ('quick', 'reconstruction')


# UCF-101's first split into training and test videos.
_UCF_TRAIN, _UCF_ALL = 9_537, 13_320
_UCF_DRAW = Draw(('train',), _UCF_TRAIN)
_UCF_PROMPTS = dataclasses.replace(
    _UCF_DRAW, asks='prompt', at_sample_rate=True)

PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol for protocol in (
        Protocol('quick'),
        # MAGVIT's configs, `eval_utils.py` and `frechet_distance.py`: 10,000
        # clips of the training iterator in each of 4 repeats, against 10,000
        # samples with their labels.
        Protocol('ucf101-magvit', 'fvd', num_generated=10_000, repeats=4,
                 draw=_UCF_DRAW, real_split='train', frames=16, size=128,
                 network=i3d.NAME,
                 preprocessing=video_features.PREPROCESSING,
                 comparable_to=('MAGVIT (2212.05199) table 1, UCF-101 FVD',
                                'W.A.L.T (2312.06662) table 1, UCF-101 FVD')),
        # StyleGAN-V's `fvd2048_16f`: the first 2,048 videos by name,
        # covariances that divide by N, SciPy's root.
        Protocol('ucf101-styleganv', 'fvd', num_generated=2_048,
                 draw=Draw(('train', 'heldout'), _UCF_ALL, order='names',
                           augment=False, asks='random label'),
                 real_split='train+test', frames=16, size=256,
                 network=i3d.NAME,
                 preprocessing=video_features.PREPROCESSING_TORCH,
                 covariance='biased', root='sqrtm',
                 comparable_to=('StyleGAN-V (2112.14683) table 1, FVD_16',)),
        # TGAN-v2's `compute_inception_score.py`: 10 sets, one split each.
        Protocol('ucf101-is', 'is', num_generated=2_048, repeats=10,
                 draw=_UCF_DRAW, frames=16, network=c3d.NAME,
                 split_size=2_048,
                 comparable_to=('TGAN-v2 (1811.09245) table 1, UCF-101 IS',)),
        # MAGVIT's `inception_score.py`, of the samples of its FVD.
        Protocol('ucf101-is-magvit', 'is', num_generated=10_000, repeats=4,
                 draw=_UCF_DRAW, frames=16, size=128, network=c3d.NAME,
                 split_size=10_000,
                 comparable_to=('MAGVIT (2212.05199) table 1, UCF-101 IS',)),
        # MAGVIT's `vqgan3d_ucf101_config.py`: one set of the same clips.
        Protocol('ucf101-rfvd', 'reconstruction', num_generated=10_000,
                 draw=_UCF_DRAW, real_split='train', frames=16, size=128,
                 network=i3d.NAME,
                 preprocessing=video_features.PREPROCESSING,
                 comparable_to=(
                     'W.A.L.T (2312.06662) table 3f, reconstruction FVD',)),
        # Make-A-Video's (2209.14792, section 4.1): 10,000 samples whose
        # classes are distributed as in the training set. The class's name for
        # the prompt, the real clips and the one split are ours.
        Protocol('ucf101-zeroshot-fvd', 'fvd', num_generated=10_000,
                 draw=_UCF_PROMPTS, real_split='train', frames=16,
                 network=i3d.NAME,
                 preprocessing=video_features.PREPROCESSING,
                 comparable_to=(
                     'W.A.L.T (2312.06662), zero-shot UCF-101 FVD',)),
        Protocol('ucf101-zeroshot-is', 'is', num_generated=10_000,
                 draw=_UCF_PROMPTS, frames=16, network=c3d.NAME,
                 split_size=10_000,
                 comparable_to=(
                     'W.A.L.T (2312.06662), zero-shot UCF-101 IS',)),
        # MAGVIT's `compute_fvd.py`: resized to 64 x 64, then to 224; the mean
        # and the deviation of several groups of samples.
        Protocol('k600-magvit', 'fvd', num_generated=50_000, repeats=4,
                 num_real=50_000, real_split='heldout', frames=16,
                 given_frames=5, network=i3d.NAME,
                 preprocessing=video_features.PREPROCESSING_64,
                 comparable_to=('MAGVIT (2212.05199) table 2, K600 FVD',
                                'W.A.L.T (2312.06662) table 1, K600 FVD')),
        # guided-diffusion's `evaluator.py`; real statistics are its file's.
        Protocol('imagenet-adm', 'fid', num_generated=50_000, frames=1,
                 size=256, network=inception.NAME,
                 preprocessing=image_features.TF1_299,
                 also=('sfid', 'is', 'precision_recall'), split_size=5_000,
                 comparable_to=('ADM (2105.05233) tables 4 and 5',
                                'DiT (2212.09748) table 2',
                                'W.A.L.T (2312.06662) table 2')),
        Protocol('reconstruction', 'reconstruction'),
    )}


def get(name: str) -> Protocol:
  """Looks a protocol up.

  Raises:
    errors.UserError: No such protocol.
  """
  if name not in PROTOCOLS:
    raise errors.UserError(
        f'no protocol {name!r}; choose one of {", ".join(PROTOCOLS)}')
  return PROTOCOLS[name]


@dataclasses.dataclass(frozen=True)
class Conditions:
  """Under what conditions a score is about to be measured.

  Attributes:
    metric: 'fvd', ..
    num_generated: Samples in each repeat; None while they are not known.
    repeats: Sets of samples.
    num_real: Real clips; None for statistics of another program.
    real_split: Split that the data set or the user says the real clips are.
    frames: Frames scored.
    given_frames: First frames given to the model.
    network: Name of the feature network.
    size: Height and width of the samples' frames.
    real_is_reference: Whether the real side is a file of statistics.
  """
  metric: str
  num_generated: int | None
  repeats: int
  num_real: int | None
  real_split: str | None
  frames: int
  given_frames: int
  network: str
  size: tuple[int, int]
  real_is_reference: bool = False


def check(protocol: Protocol, found: Conditions) -> None:
  """Refuses a score that would not be what the protocol's name says.

  Raises:
    errors.UserError: Names the first condition that is not met.
  """

  def refuse(what: str, fix: str = 'use --protocol quick'):
    raise errors.UserError(f'protocol {protocol.name} {what}; {fix}')

  if protocol.metric not in (None, found.metric):
    refuse(f'is for {protocol.metric}, not {found.metric}')
  if protocol.network not in (None, found.network):
    refuse(f'is defined by {protocol.network}, not {found.network}',
           'give its weights with --network or use --protocol quick')
  wanted = protocol.num_generated
  if (wanted is not None and found.num_generated is not None
      and (found.num_generated, found.repeats) != (wanted, protocol.repeats)):
    sets, got = '', ''
    if protocol.repeats > 1:
      sets, got = f' in each of {protocol.repeats} sets', f' in {found.repeats}'
    refuse(f'scores {wanted} samples{sets}, got {found.num_generated}{got}',
           f'generate {wanted * protocol.repeats} or use --protocol quick')
  if protocol.frames not in (None, found.frames):
    refuse(f'scores {protocol.frames} frames, got {found.frames}')
  if protocol.size is not None and found.size != (protocol.size,) * 2:
    refuse(f'scores frames of {protocol.size}x{protocol.size}, got '
           f'{"x".join(map(str, found.size))}')
  if protocol.given_frames != found.given_frames and protocol.metric == 'fvd':
    refuse(f'gives the model {protocol.given_frames} frames of a real clip, '
           f'got {found.given_frames}',
           f'say --given_frames {protocol.given_frames} if so, or use '
           '--protocol quick')
  if (protocol.num_real is not None and found.num_real is not None
      and found.num_real < protocol.num_real):
    refuse(f'needs {protocol.num_real} real clips, got {found.num_real}')
  if protocol.real_split not in (None, found.real_split):
    refuse(f'takes real clips of the split {protocol.real_split!r}, got '
           f'{found.real_split or "an unknown one"!r}',
           f'say --real_split {protocol.real_split} if so')
  if protocol.name == 'imagenet-adm' and not found.real_is_reference:
    refuse('compares with a file of reference statistics',
           "give ADM's VIRTUAL_imagenet256_labeled.npz as --real")


def describe(protocol: Protocol) -> dict[str, Any]:
  """What a result says of its protocol."""
  return dict(protocol=protocol.name,
              comparable_to=list(protocol.comparable_to))
