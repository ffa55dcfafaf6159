"""Scores of the quickstart's runs and of baselines measured alike."""
import dataclasses
import pathlib
import warnings

import numpy as np

from walt_jax.builders import pipelines
from walt_jax.builders import tokenizers
from walt_jax.core import files
from walt_jax.data.sources import moving_digits
from walt_jax.data.storage import codecs
from walt_jax.data.storage import dataset as dataset_lib
from walt_jax.evaluation import reconstruct
from walt_jax.media import samples as samples_lib
from walt_jax.metrics import baselines
from walt_jax.metrics import reconstruction
from walt_jax.metrics import video_features
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.report import scores_file
from walt_jax.sampling import compiled_tokenizer
from walt_jax.sampling import requests as requests_lib
from walt_jax.sampling import upscale

Score = scores_file.Score
Baseline = scores_file.Baseline
_FPS = moving_digits.FPS
_SHOWN = 8  # Clips of a folder that is there to be looked at.
_ALL_KINDS = 40
# Scores of perceptual distances -> their networks. The second network judges
# first: tokenizers are trained with the other.
_PERCEPTUAL = {reconstruction.SECOND: 'EfficientNet-Lite2',
               reconstruction.PERCEPTUAL: 'EfficientNet-Lite0'}
_FLATTERED = ('The tokenizer was trained with this network, which flatters '
              'it.')
# Kinds of clips in `control.json` -> what the report calls them.
_KINDS = {'real': 'real', 'reconstruction': 'reconstructed'}
_NOISE_LEVEL = 0.0  # The true low-resolution clip needs no repair.


def measure(out: pathlib.Path, fvd_clips: int,
            difficulty: str) -> list[Score]:
  """Scores a quickstart's work directories.

  Args:
    out: The quickstart's folder, all commands done.
    fvd_clips: Clips of each set that FVD compares.
    difficulty: Difficulty of the moving digits, for the notes.
  """
  real = held_out(out / 'data' / '32')
  entries = [samples_lib.Entry(stem=f'{i:05d}', caption=e['caption'],
                               label=e['label_name'], index=i)
             for i, e in enumerate(real)]
  videos = np.stack([e['video'] for e in real])
  # Any 40 neighbours show every digit and direction.
  samples_lib.write_samples(out / 'real', videos[:_ALL_KINDS],
                            entries[:_ALL_KINDS], _FPS, kind='real')
  network = reconstruction.load_networks()
  scores = _tokenizer(out, videos, entries, network)
  scores += _control(out, difficulty)
  scores.append(_fvd(out, videos, fvd_clips))
  for index, size in ((1, 64), (2, 128)):
    scores += _super_resolution(out, index, size, network)
  return scores


def held_out(path: pathlib.Path) -> list[dict]:
  """The held-out examples of a prepared dataset, decoded."""
  dataset = dataset_lib.PreparedDataset(path, 'heldout')
  examples = []
  for i in range(len(dataset)):
    example = dataset[i]
    examples.append(dict(
        video=codecs.decode_frames(example['encoded']),
        caption=example['caption'],
        label_name=dataset.classes[example['label']]))
  return examples


def _tokenizer(out, videos, entries, network) -> list[Score]:
  tokenizer = tokenizers.load_tokenizer(str(out / 'tokenizer'))
  decoded = list(reconstruct.reconstructions(
      compiled_tokenizer.Codec(tokenizer), videos))
  result = reconstruction.compare_clips(videos, decoded, network)
  samples_lib.write_samples(
      out / 'reconstructions', decoded[:_SHOWN], entries[:_SHOWN], _FPS,
      kind='reconstruction', originals=videos[:_SHOWN])
  mean = baselines.mean_clip(videos, len(videos))
  trivial = reconstruction.compare_clips(videos, mean, network)
  count = len(videos)
  return [
      Score('PSNR of held-out clips', result['psnr'], 'Tokenizer', 'dB',
            count=count, target=26.0,
            baselines=(Baseline('mean clip', trivial['psnr']),)),
      Score('SSIM', result['ssim'], 'Tokenizer', count=count,
            baselines=(Baseline('mean clip', trivial['ssim']),)),
      *(Score(f'Perceptual distance ({network_name})', result[name],
              'Tokenizer', count=count, better='lower',
              baselines=(Baseline('mean clip', trivial[name]),),
            note=_FLATTERED if name == reconstruction.PERCEPTUAL else '')
        for name, network_name in _PERCEPTUAL.items())]


def _control(out, difficulty: str) -> list[Score]:
  """What `walt evaluate control` found, the readers' own scores beside it."""
  result = files.read_json(out / 'control.json')
  scores = []
  for name, target, chance in (('digit', 0.3, 0.1), ('direction', 0.9, 0.25)):
    beside = tuple(
        Baseline(f'reader on {_KINDS[kind]} held-out clips',
                 value[name]['accuracy'],
                 (value[name]['low'], value[name]['high']),
                 value[name]['total'])
        for kind, value in result['readers'].items() if value)
    asked = result[name]
    scores.append(Score(
        f'{name.capitalize()} accuracy', asked['accuracy'],
        'Base, by caption and label', 'fraction', (asked['low'], asked['high']),
        asked['total'], target=target,
        baselines=(*beside, Baseline('chance', chance)),
        note=f'Moving digits of difficulty {difficulty!r}.'))
  return scores


def _fvd(out, videos: np.ndarray, count: int) -> Score:
  """FVD of the base's samples; every set has `count` clips."""
  first, second = videos[:count], videos[count:2 * count]
  load = lambda name: samples_lib.read_samples(out / name).clips()
  generated = load('base_samples')
  # One of each class and direction before any twice.
  spread = np.arange(len(generated)).reshape(-1, 4).T.reshape(-1)
  sets = {
      'generated': generated[spread[:count]],
      'real against real': second,
      'step-0 denoiser': load('step0_samples')[:count],
      'mean clip': baselines.mean_clip(first, count),
      'frozen first frames': np.ascontiguousarray(
          baselines.frozen_first_frames(second))}
  with warnings.catch_warnings():  # The score's note says it.
    warnings.filterwarnings('ignore', 'fvd of .* biased upwards')
    results = baselines.score_sets(
        first, sets, network=video_features.load_network())
  values = {name: result['value'] for name, result in results.items()}
  return Score(
      'FVD', values['generated'], 'Base, by caption and label', count=count,
      better='lower', target=min(values['step-0 denoiser'] / 2,
                                 values['mean clip']),
      baselines=tuple(Baseline(name, values[name], count=count)
                       for name in sets if name != 'generated'),
      note=f'I3D, {count} clips a set: biased upwards and comparable only '
      'within this table.')


def _super_resolution(out, index: int, size: int, network) -> list[Score]:
  """One stage on true low-resolution clips, beside bilinear upsampling."""
  examples = held_out(out / 'data' / str(size))
  truth = np.stack([e['video'] for e in examples])
  workdir = str(out / f'sr{index}')
  pipeline = pipelines.load_pipeline(
      [workdir], mesh_lib.make_mesh(), low_res_given=True)
  stage = pipeline.stages[0]
  factor = stage.sampler.denoiser.low_res_factor
  low = upscale.low_resolution(truth, factor)
  requests = [requests_lib.Request(prompt=e['caption'], label=e['label_name'],
                                   index=i) for i, e in enumerate(examples)]
  settings = dataclasses.replace(stage.defaults, noise_level=_NOISE_LEVEL)
  made = upscale.upscale(pipeline, low, requests, settings, batch_size=4)
  plain = upscale.bilinear(low, factor)
  samples_lib.write_samples(
      out / f'sr{index}_from_truth', made[:_SHOWN],
      [samples_lib.Entry(stem=f'{i:05d}', caption=r.prompt, label=r.label)
       for i, r in enumerate(requests[:_SHOWN])], _FPS,
      kind='reconstruction', originals=truth[:_SHOWN])
  ours = reconstruction.compare_clips(truth, made, network)
  bilinear = reconstruction.compare_clips(truth, plain, network)
  group = f'Super-resolution to {size} px, true low-resolution clips'
  beside = lambda name: (Baseline('bilinear upsampling', bilinear[name]),)
  return [
      *(Score(f'Perceptual distance ({network_name})', ours[name], group,
              count=len(truth), better='lower', target=bilinear[name],
              baselines=beside(name))
        for name, network_name in _PERCEPTUAL.items()),
      Score('PSNR', ours['psnr'], group, 'dB', count=len(truth),
            baselines=beside('psnr'))]
