"""What to do when a config's data are not there, or are others."""
import functools

from walt_jax.builders import schema
from walt_jax.builders import sections
from walt_jax.core import errors
from walt_jax.core import paths
from walt_jax.data.prepare import work_items
from walt_jax.data.sources import open
from walt_jax.data.storage import manifest as manifest_lib

_DEFAULTS = work_items.Settings()


def reach(config: schema.Experiment) -> None:
  """Asks for the buckets that a config names, before anything runs.

  Raises:
    UserError: One does not answer, or refuses.
  """
  named = [config.init_from]
  if ':' not in config.data.name:  # Else a source of one's own reads them.
    named += [config.data.path, config.data.image_path]
  if isinstance(config, schema.DenoiserExperiment):
    named += [config.tokenizer.workdir, config.text.path]
  elif isinstance(config, schema.TokenizerExperiment):
    named.append(config.perceptual.path)
  for value in named:
    for path in sections.places(value):
      paths.reach(path, write=False)


def check_present(config: schema.Experiment) -> None:
  """Raises UserError, with the command that makes them, for missing data."""
  data = config.data
  if data.name not in ('clips', 'latents'):
    return  # Rendered on the way.
  if not open.names_in(data.path):
    raise errors.UserError(
        'config key data.path is empty; give prepared data '
        f'(--config.data.path=DIR), made with: {command(config)}')
  for key in ('path', 'image_path'):
    for name in open.names_in(getattr(data, key)):
      if not name.startswith('tfds:') and not (
          paths.path(name) / manifest_lib.MANIFEST).is_file():
        images = key == 'image_path'
        output = manifest_lib.hinted_folders(name)[1]
        if data.name == 'latents':  # Beside what was prepared of raw files.
          output += '/latents'
        made = command(config, name, images=images)
        raise errors.UserError(
            f'config key data.{key}: {name!r} holds no prepared data (no '
            f'{manifest_lib.MANIFEST}); make them with: {made}'
            + (f' and give --config.data.{key}={output}'
               if manifest_lib.holds_files(name) else ''))


def command(config: schema.Experiment, output: str = 'DIR', *,
            images: bool = False) -> str:
  """The command line that prepares what a config trains on.

  Args:
    config: Config of any stage.
    output: Folder of the result; one that holds files becomes the input.
    images: Whether the hint is for `data.image_path`, not `data.path`.
  """
  data = config.data
  hinted = functools.partial(manifest_lib.hinted_folders, output)
  frames = 1 if images else data.num_frames
  cached = data.name == 'latents'
  flags = ['--num_frames', frames] if frames != _DEFAULTS.min_frames else []
  if data.frame_rate and frames > 1:
    flags += ['--fps', f'{data.frame_rate:g}']
  denoiser = config if isinstance(config, schema.DenoiserExperiment) else None
  if cached:
    flags += ['--height', data.height, '--width', data.width]
    if denoiser.model.low_res_factor:
      flags += ['--low_res_factor', denoiser.model.low_res_factor]
    if denoiser.text.name:
      flags += ['--text', denoiser.text.name, '--max_tokens',
                denoiser.text.max_tokens]
    source, target = hinted('DATA')
    what = ['--latents', '--workdir', 'TOKENIZER']
  else:
    side = min(data.height, data.width)
    if side != _DEFAULTS.size:
      flags += ['--size', side]
    if denoiser and denoiser.text.name:
      flags += ['--annotations', 'CAPTIONS']
    source, target = hinted('VIDEOS' if frames > 1 else 'IMAGES')
    what = []
  return ' '.join(map(str, (
      'walt data prepare', *what, '--input', source, '--output', target,
      *flags)))


def shape_text(shape: list[int]) -> str:
  """Such as 5 x 16 x 16 x 8."""
  return ' x '.join(map(str, shape))
