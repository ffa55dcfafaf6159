"""`walt demo`: a local web page that draws clips from trained stages."""
import argparse
from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import html
import itertools
import os
import pathlib
import shutil
import tempfile
import traceback
from typing import Any

import jax

from walt_jax.builders import config as config_lib
from walt_jax.builders import pipelines
from walt_jax.builders import sampling_meshes
from walt_jax.commands import demo_limits
from walt_jax.commands import requests
from walt_jax.core import errors
from walt_jax.core import extras
from walt_jax.core import scratch
from walt_jax.diffusion import samplers
from walt_jax.parallel import mesh as mesh_lib
from walt_jax.parallel import rules
from walt_jax.parallel import session
from walt_jax.sampling import cascade
from walt_jax.sampling import job as job_lib
from walt_jax.sampling import output as output_lib
from walt_jax.sampling import pipeline as pipeline_lib
from walt_jax.sampling import settings as settings_lib

TITLE = 'walt_jax'
NO_LABEL = '(none)'
_MAX_WAITING = 16  # Requests in the queue; one runs at a time.
_MOST_SEED = 2 ** 53 - 1  # A browser's whole numbers end there.
_KEPT_SECONDS = 3600  # Gradio's copies of files that were shown or uploaded.
_MOST_WINDOWS = 8  # Of a clip that is longer than a model draws at once.
_FAULT = ('It failed, by a fault of the program; the terminal in which the '
          'demo runs has the details.')
_SIZES = 'Clips of {frames} frames, {height} x {width}, {rate:g} a second.'


def run(args: argparse.Namespace) -> None:
  """Entry point; see `walt demo --help`."""
  config_lib.check_workdirs(args.workdir, allow_code=args.allow_code)
  gradio = _import_gradio()
  mesh = sampling_meshes.sampling_mesh(
      pipelines.read_denoiser(args.workdir[0], args.allow_code), None,
      mesh_lib.available())
  session.say('demo', mesh)
  pipeline = requests.at_rate(pipelines.load_pipeline(
      args.workdir, mesh, allow_code=args.allow_code), args.fps)
  with scratch.folder('demo') as folder:
    # Gradio's copies of files that were shown or uploaded go with the demo.
    os.environ['GRADIO_TEMP_DIR'] = str(folder / 'shown')
    server = serve(gradio, Drawer(pipeline, mesh, folder),
                   args.host, args.port)
    with contextlib.closing(server):
      print(f'{TITLE} demo: {server.local_url} (Ctrl-C ends it)', flush=True)
      server.block_thread()


def _import_gradio() -> Any:
  """The web library, an optional extra.

  Raises:
    UserError: If it is not installed.
  """
  with extras.needed('demo', 'the demo', 'Gradio'):
    import gradio
  return gradio


class Drawer:
  """Draws one clip after the other with loaded stages.

  Stages stay on the devices between clips.
  """

  def __init__(self, pipeline: pipeline_lib.Pipeline,
               mesh: jax.sharding.Mesh, folder: pathlib.Path):
    """Draws nothing yet; clips go to new folders inside `folder`."""
    self.pipeline, self._mesh, self._folder = pipeline, mesh, folder
    self.limits = demo_limits.Limits(
        _MOST_WINDOWS * pipeline.plan().window_frames)
    self._kept = demo_limits.Kept(self.limits.kept)

  def draw(self, job: job_lib.SamplingJob, report: cascade.Report
           ) -> pathlib.Path:
    """Draws a job's clips, one at a time.

    Args:
      job: What is asked for.
      report: Told of progress.

    Returns:
      A folder as `walt sample` writes it.

    Raises:
      UserError: For what the stages cannot do.
    """
    prepared = job_lib.prepare(
        dataclasses.replace(job, batch_size=1), self.pipeline)
    out = pathlib.Path(tempfile.mkdtemp(dir=self._folder))
    with (rules.activate(self._mesh), scratch.partial(out),
          _removed_on_error(out)):
      output_lib.draw(self.pipeline, prepared, output_lib.Output(out),
                      report=report, release=False)
    self._kept.add(out)
    return out


@contextlib.contextmanager
def _removed_on_error(folder: pathlib.Path) -> Iterator[None]:
  try:
    yield
  except BaseException:
    shutil.rmtree(folder, ignore_errors=True)
    raise


def serve(gradio: Any, drawer: Drawer, host: str, port: int) -> Any:
  """Starts the server and returns it.

  Raises:
    UserError: If it cannot listen there.
  """
  page = make_page(gradio, drawer)
  page.queue(max_size=_MAX_WAITING, default_concurrency_limit=1)
  try:
    page.launch(
        server_name=host, server_port=port or None, prevent_thread_lock=True,
        share=False, quiet=True, show_error=False, ssr_mode=False,
        max_file_size=drawer.limits.upload,
        footer_links=[], theme=gradio.themes.Default(
            font=['system-ui', 'sans-serif'], font_mono=['monospace']))
  except OSError as e:
    raise errors.UserError(
        f'cannot listen on {host}:{port}: {e}; give another --port') from e
  return page


def make_page(gradio: Any, drawer: Drawer) -> Any:
  """Builds the page: what to draw, settings by stage, the result."""
  pipeline = drawer.pipeline
  base, plan, size = (pipeline.stages[0], pipeline.plan(), pipeline.size(-1))
  with gradio.Blocks(
      title=TITLE, analytics_enabled=False,
      delete_cache=(_KEPT_SECONDS, _KEPT_SECONDS)) as page:
    gradio.Markdown(f'# {TITLE}\n' + _SIZES.format(
        frames=plan.window_frames, height=size.height, width=size.width,
        rate=pipeline.frame_rate))
    with gradio.Row():
      with gradio.Column():
        prompt = gradio.Textbox(
            label='Prompt', elem_id='prompt', visible=base.uses_text,
            placeholder='a seven moves left')
        label = gradio.Dropdown(
            [NO_LABEL, *base.classes], value=NO_LABEL, label='Label',
            elem_id='label', visible=bool(base.classes))
        image = gradio.Image(
            type='filepath', label='First frame', elem_id='image',
            sources=['upload', 'clipboard'],
            visible=1 in base.frame_lengths)
        with gradio.Row():
          frames = gradio.Number(
              plan.window_frames, precision=0, minimum=1, label='Frames',
              elem_id='frames')
          seed = gradio.Number(
              0, precision=0, minimum=0, maximum=_MOST_SEED, label='Seed',
              elem_id='seed')
        inputs = [prompt, label, image, frames, seed]
        borders = [len(inputs)]
        for index, stage in enumerate(pipeline.stages):
          fields = _stage_fields(gradio, stage, first=index == 0)
          inputs += fields
          borders.append(len(inputs))
        button = gradio.Button('Draw', variant='primary', elem_id='draw')
      with gradio.Column():
        clip = gradio.Video(
            label='Clip', elem_id='clip', autoplay=True, loop=True)
        files = gradio.Files(label='Files', elem_id='files')

    visitors = demo_limits.Visitors()

    # Gradio fills in the request and `progress`, the latter by its default,
    # among positional arguments.
    def draw(request: gradio.Request, progress=gradio.Progress(),  # noqa: B008
             *values):
      def report(stage, done, total):
        visitors.check(request.session_hash)
        progress((done, total), desc=stage, unit='windows')

      try:
        visitors.check(request.session_hash)
        job = _job(pipeline, values[:5], [
            values[begin:end] for begin, end in itertools.pairwise(borders)],
            drawer.limits)
        out = drawer.draw(job, report)
      except errors.UserError as e:
        raise gradio.Error(
            html.escape(demo_limits.sentence(e)), print_exception=False) from e
      except demo_limits.AbandonedError as e:
        raise gradio.Error('Abandoned.', print_exception=False) from e
      except Exception as e:
        traceback.print_exc()  # For whoever runs the demo.
        raise gradio.Error(_FAULT, print_exception=False) from e
      shown = out / '00000.mp4'
      return (str(shown) if shown.is_file() else None,
              demo_limits.offered(out))

    def leave(request: gradio.Request):
      visitors.leave(request.session_hash)

    button.click(draw, inputs, [clip, files], api_name='draw')
    page.unload(leave)
  return page


def _stage_fields(gradio: Any, stage: pipeline_lib.TrainedStage, *,
                  first: bool) -> list[Any]:
  """The widgets of one stage, in the order in which `_choice` reads them."""
  defaults = stage.defaults
  with gradio.Accordion(f'Stage {stage.name}', open=first):
    fields = [
        gradio.Number(defaults.options.num_steps, precision=0, minimum=1,
                      label='Steps', elem_id=f'{stage.name}-steps'),
        gradio.Dropdown(
            list(dict.fromkeys([*samplers.SAMPLERS, defaults.options.sampler])),
            value=defaults.options.sampler, label='Sampler',
            elem_id=f'{stage.name}-sampler')]
    for name in sorted(stage.conditions):
      scale = defaults.guidance.scales.get(name, 1.0)
      fields.append(gradio.Slider(
          min(0, scale), max(10, scale), value=scale, step=0.05,
          label=f'Guidance by {name}', elem_id=f'{stage.name}-{name}'))
    if stage.sampler.denoiser.low_res_factor:
      fields.append(gradio.Slider(
          0, stage.most_noise, value=defaults.noise_level, step=0.05,
          label='Noise on the low-resolution input',
          elem_id=f'{stage.name}-noise'))
  return fields


def _job(pipeline: pipeline_lib.Pipeline, asked: Sequence[Any],
         fields: Sequence[Sequence[Any]], limits: demo_limits.Limits
         ) -> job_lib.SamplingJob:
  """What the page asks for.

  Args:
    pipeline: Its stages.
    asked: Prompt, label, first frame, frames and seed.
    fields: Values of each stage's `_stage_fields`.
    limits: Bounds of all that is asked for.

  Raises:
    UserError: It goes beyond them.
  """
  prompt, label, image, frames, seed = asked
  stages = pipeline.stages
  limits.check_prompt(prompt or '')
  limits.check_image(image or '')
  return job_lib.SamplingJob(
      prompt=(prompt or '').strip(),
      label='' if label in (None, NO_LABEL) else label, image=image or '',
      num_frames=_whole(frames, 'Frames', 1, limits.frames),
      seed=_whole(seed, 'Seed', 0, _MOST_SEED),
      choice=settings_lib.SamplerChoice(
          steps=[_whole(values[0], f'Steps of {stage.name}', 1, limits.steps)
                 for stage, values in zip(stages, fields, strict=True)],
          sampler=[values[1] for values in fields],
          guidance=[_scales(stage, values[2:])
                    for stage, values in zip(stages, fields, strict=True)],
          noise_level=[float(values[-1]) for values in fields[1:]] or None))


def _scales(stage: pipeline_lib.TrainedStage,
            values: Sequence[Any]) -> dict[str, float]:
  """Guidance scales, in the order of `_stage_fields`."""
  return {name: float(value)
          for name, value in zip(sorted(stage.conditions), values,
                                 strict=False) if value is not None}


def _whole(value: float | None, name: str, least: int,
           most: int) -> int:
  """Reads a number field; it may have been left empty."""
  if value is None or not least <= value <= most or value != int(value):
    raise errors.UserError(
        f'{name} must be a whole number from {least} to {most}, not {value}')
  return int(value)
