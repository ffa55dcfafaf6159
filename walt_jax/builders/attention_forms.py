"""The form of each kind of attention that a run takes, to be told."""
from walt_jax.builders import networks
from walt_jax.builders import schema
from walt_jax.models.kernels import fused_attention
from walt_jax.models.kernels import operands


def attention_forms(config: schema.DenoiserExperiment, platform: str
                    ) -> dict[str, str]:
  """The form by kind of attention: 'spatial', 'spacetime' and 'text'.

  Where the form that was chosen does not serve a size, it is the plain one,
  with the reason.

  Args:
    config: A denoiser's config.
    platform: 'cpu', 'gpu' or 'tpu', of the mesh's devices.
  """
  model, chosen = config.model, networks.denoiser(config, platform
                                                  ).attention_form
  grid = (config.latents.frames, config.latents.height // model.patch,
          config.latents.width // model.patch)
  heads = max(model.num_heads // max(config.mesh.tensor, 1), 1)
  kinds = {'spatial': (model.spatial_window, 0),
           'spacetime': (model.spacetime_window, 0)}
  if config.text.name:
    kinds['text'] = (model.spatial_window, config.text.max_tokens)
  forms = {}
  for kind, (window, text_length) in kinds.items():
    sizes = operands.Sizes(
        grid, window, heads, model.width // model.num_heads, text_length,
        model.dtype)
    reason = fused_attention.refusal(chosen, sizes)
    forms[kind] = chosen if reason is None else (
        f'{fused_attention.served(chosen, sizes)} ({chosen} does not serve '
        f'{reason})')
  return forms


def words(config: schema.Experiment, platform: str) -> str:
  """The forms in a few words, for a log line; '' without attention."""
  if not isinstance(config, schema.DenoiserExperiment):
    return ''
  forms = attention_forms(config, platform)
  if len(set(forms.values())) == 1:
    return f'attention {next(iter(forms.values()))}'
  return 'attention ' + ', '.join(
      f'{kind} {form}' for kind, form in forms.items())
